import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeEnv } from '../../core/env/node.ts';
import { RpcServer } from '../../core/grpc.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import { connectMeta } from '../../core/meta/remote.ts';
import { addMetaService } from '../../core/meta/service.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { describeStore } from './contract.ts';
import { mortal } from './mortal.ts';
import { type Subject, timeoutMs } from './subject.ts';

const HISTORY_MOST = 100;

describeStore('remote, over gRPC', async (): Promise<Subject> => {
  const directory = await mkdtemp(join(tmpdir(), 'silverback-meta-'));
  const connections: MetaStore[] = [];
  let port = 0;
  const serve = async () => {
    const life = mortal(nodeEnv);
    const store = await openEmbeddedMeta(life.env, directory, { historyMost: HISTORY_MOST, snapshotLeastBytes: 2_000 });
    const server = new RpcServer();
    addMetaService(server, store);
    port = await server.listen(`127.0.0.1:${port}`);
    return { life, store, server };
  };
  let running = await serve();
  return {
    get port() {
      return port;
    },
    async forget() {
      for (let i = 0; i <= HISTORY_MOST; i++) await running.store.commit([], [{ put: 'filler', value: String(i) }]);
    },
    connect(via) {
      const connection = connectMeta(nodeEnv, {
        address: `127.0.0.1:${via ?? port}`,
        caller: 'test',
        timeoutMs: timeoutMs(via),
      });
      connections.push(connection);
      return connection;
    },
    async kill() {
      running.life.kill();
      running.server.stop();
    },
    async restart() {
      running = await serve();
    },
    async stop() {
      for (const connection of connections) await connection.close();
      running.server.stop();
      await running.store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
