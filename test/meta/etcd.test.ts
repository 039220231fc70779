import { test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { connectEtcd } from '../../core/meta/etcd.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { describeStore, type Subject } from './contract.ts';
import { ETCD, EtcdServer } from './etcd-server.ts';

test.skipIf(ETCD !== undefined)('SKIPPED: there is no etcd here (SILVERBACK_TEST_ETCD)', (context) => context.skip());

if (ETCD !== undefined) {
  describeStore('etcd', async (): Promise<Subject> => {
    const server = await EtcdServer.start();
    const connections: MetaStore[] = [];
    return {
      port: server.port,
      connect(port = server.port) {
        const endpoints = [`127.0.0.1:${port}`];
        const connection = connectEtcd(nodeEnv, { endpoints, prefix: 'test/', timeoutMs: 1_000 });
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
