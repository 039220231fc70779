/** A meta store's gRPC face: in and out, no decisions. */
import { SilverbackError } from '../errors.ts';
import type { RpcServer } from '../grpc.ts';
import { fromWireChange, metaMethods, toWireEntry, toWireEvent } from './protocol.ts';
import type { LeaseId, MetaStore } from './store.ts';

/** A watch whose caller reads slower than this many events arrive is ended; the caller starts it again. */
const WATCH_BACKLOG_MOST = 10_000;

/** Adds the Meta service over `store` to `server`, before it listens. */
export function addMetaService(server: RpcServer, store: MetaStore): void {
  server
    .unary(metaMethods.Commit, async ({ conditions, changes }) => ({
      revision: await store.commit(conditions, changes.map(fromWireChange)),
    }))
    .unary(metaMethods.Get, async ({ key }) => {
      const entry = await store.get(key);
      return { entry: entry === undefined ? null : toWireEntry(entry) };
    })
    .unary(metaMethods.Range, async ({ prefix }) => {
      const { revision, entries } = await store.range(prefix);
      return { revision, entries: entries.map(toWireEntry) };
    })
    .unary(metaMethods.GrantLease, async ({ ttlMs }) => ({ lease: await store.grantLease(ttlMs) }))
    .unary(metaMethods.RenewLease, async ({ lease }) => {
      await store.renewLease(lease as LeaseId);
      return {};
    })
    .unary(metaMethods.RevokeLease, async ({ lease }) => {
      await store.revokeLease(lease as LeaseId);
      return {};
    })
    .stream(metaMethods.Watch, ({ prefix, fromRevision }, call) => {
      return new Promise((resolve, reject) => {
        let sending = call.send({ revision: 0, events: [] });
        let backlog = 0;
        const finish = (error: Error): void => {
          watch.close();
          sending.then(() => reject(error), reject);
        };
        const watch = store.watch(prefix, fromRevision, {
          events(events, revision) {
            backlog += events.length;
            if (backlog > WATCH_BACKLOG_MOST) return finish(tooSlow());
            sending = sending
              .then(() => call.send({ revision, events: events.map(toWireEvent) }))
              .then(() => {
                backlog -= events.length;
              });
            sending.catch(finish);
          },
          ended: finish,
        });
        sending.catch(finish);
        call.signal.addEventListener('abort', () => {
          watch.close();
          resolve();
        });
      });
    });
}

function tooSlow(): SilverbackError {
  return new SilverbackError('RESOURCE_EXHAUSTED', `meta store: a watch fell ${WATCH_BACKLOG_MOST} events behind`);
}
