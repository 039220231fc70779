import { test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { connectEtcd } from '../../core/meta/etcd.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { describeStore } from './contract.ts';
import { ETCD, EtcdServer } from './etcd-server.ts';
import { type Subject, timeoutMs } from './subject.ts';

test.skipIf(ETCD !== undefined)('SKIPPED: there is no etcd here (SILVERBACK_TEST_ETCD)', (context) => context.skip());

if (ETCD !== undefined) {
  describeStore('etcd', async (): Promise<Subject> => {
    const server = await EtcdServer.start();
    const connections: MetaStore[] = [];
    return {
      port: server.port,
      connect(port) {
        const endpoints = [`127.0.0.1:${port ?? server.port}`];
        const connection = connectEtcd(nodeEnv, { endpoints, prefix: 'test/', timeoutMs: timeoutMs(port) });
        connections.push(connection);
        return connection;
      },
      forget: () => server.compact(),
      kill: () => server.kill(),
      restart: () => server.restart(),
      async stop() {
        for (const connection of connections) await connection.close();
        await server.stop();
      },
    };
  });
}
