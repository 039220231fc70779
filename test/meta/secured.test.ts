/** An etcd that wants certificates and users: who has them works as ever, who has not is told why in one line. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodeEnv } from '../../core/env/node.ts';
import { openClusterWhenThere } from '../../core/meta/cluster.ts';
import { connectEtcd, type EtcdOptions } from '../../core/meta/etcd.ts';
import { etcdOptions } from '../../core/meta/flags.ts';
import { follow } from '../../core/meta/follow.ts';
import { holdLease } from '../../core/meta/lease.ts';
import { StoreRefused } from '../../core/meta/store.ts';
import { Authority, type Certificate } from './authority.ts';
import { ETCD, EtcdServer, type Secured } from './etcd-server.ts';
import { eventually } from './observe.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

describe.skipIf(ETCD === undefined)('etcd with TLS and users', () => {
  let server: EtcdServer;
  let secured: Secured;
  let other: Authority;
  let foreign: Certificate;
  beforeAll(async () => {
    ({ server, secured } = await EtcdServer.startSecured());
    await server.enableAuth('silverback', 'right', 'p/');
    other = await Authority.create('another authority');
    foreign = await other.sign('a stranger');
  }, 60_000);
  afterAll(() => server?.stop());

  const tls = ({ cert, key } = secured.client, ca = secured.authority.cert) => ({
    ca: bytes(ca),
    cert: bytes(cert),
    key: bytes(key),
  });
  const auth = { user: 'silverback', password: 'right' };
  const connect = (more: Partial<EtcdOptions>) =>
    connectEtcd(nodeEnv, { endpoints: [server.address], prefix: 'p/', timeoutMs: 20_000, ...more });

  test('who has certificates and the password works, and goes on when etcd has been away and forgot its tokens', async () => {
    const store = connect({ tls: tls(), auth });
    const seen = follow(nodeEnv, store, 'f/', () => undefined);
    const held = holdLease(nodeEnv, store, 20_000, {
      granted: async (lease) => void (await store.commit([], [{ put: 'f/member', value: 'here', lease }])),
      lost: () => undefined,
    });
    await eventually(() => expect([...(seen.entries() ?? new Map()).keys()]).toEqual(['f/member']));
    await server.kill();
    await server.restart();
    await eventually(() => store.commit([], [{ put: 'f/later', value: '1' }]));
    await eventually(() => expect(seen.entries()?.size).toBe(2));
    const lease = (await store.get('f/member'))!.lease!;
    await eventually(() => store.renewLease(lease));
    await held.close();
    await eventually(() => expect([...seen.entries()!.keys()]).toEqual(['f/later']));
    seen.close();
    await store.close();
  });

  test.each<[string, () => Partial<EtcdOptions>, RegExp]>([
    ['a wrong password', () => ({ tls: tls(), auth: { ...auth, password: 'x' } }), /it does not take user silverback/],
    ['an unknown user', () => ({ tls: tls(), auth: { ...auth, user: 'who' } }), /it does not take user who/],
    ['no user', () => ({ tls: tls() }), /who gives no --etcd-user may not use the keys under p\//],
    ['keys of others', () => ({ tls: tls(), auth, prefix: 'q/' }), /user silverback may not use the keys under q\//],
    [
      'another authority',
      () => ({ tls: tls(secured.client, other.cert), auth }),
      /its certificate is not signed by the authority in --etcd-ca/,
    ],
    ['a certificate of another authority', () => ({ tls: tls(foreign), auth }), /it does not take the certificate/],
    ['no certificate', () => ({ tls: { ca: tls().ca }, auth }), /it does not take the certificate .* or wants one/],
  ])('%s: said in one line, and nobody waits for it', async (_, options, expected) => {
    const store = connect(options());
    // A handshake that a stall cuts off says less; the next says it.
    const error = await eventually(async () => {
      const thrown: unknown = await store.get('x').catch((caught: unknown) => caught);
      expect(thrown).toBeInstanceOf(StoreRefused);
      return thrown as StoreRefused;
    });
    expect(error.message).toMatch(expected);
    expect(error.message).toContain(`etcd at ${server.address}: `);
    expect(error.message).not.toContain('\n');
    expect(error.code).toBe('UNAVAILABLE');
    // Calls that come before the next try of a connection know it, too.
    await expect(store.get('x')).rejects.toThrow(expected);
    await expect(openClusterWhenThere(nodeEnv, store, 4, () => undefined)).rejects.toThrow(expected);
    await store.close();
  });

  test('a key that does not belong to its certificate is refused before anything is sent', () => {
    const { cert } = secured.client;
    expect(() => connect({ tls: tls({ cert, key: foreign.key }) })).toThrow(
      /--etcd-key: these files cannot be used: .*key/,
    );
    expect(() => connect({ tls: tls({ cert, key: 'no PEM' }) })).toThrow(/--etcd-key: these files cannot be used/);
  });
});

test.skipIf(ETCD === undefined)('an etcd without TLS or users tells who brings them', async () => {
  const server = await EtcdServer.start();
  const { cert } = await Authority.create('an authority');
  const [withTls, withUser] = [{ tls: { ca: bytes(cert) } }, { auth: { user: 'a', password: 'b' } }].map((options) =>
    connectEtcd(nodeEnv, { endpoints: [server.address], prefix: 'p/', ...options }),
  );
  await eventually(() => expect(withTls!.get('x')).rejects.toThrow('it does not speak TLS'));
  await eventually(() => expect(withUser!.get('x')).rejects.toThrow('it knows no users, and user a was given'));
  await withTls!.close();
  await withUser!.close();
  await server.stop();
});

describe('where the password comes from', () => {
  const given = { etcd: ['h:1'], etcdPrefix: 'p/', etcdUser: 'u' };
  const none = { etcdCa: undefined, etcdCert: undefined, etcdKey: undefined };
  let directory = '';
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'silverback-password-'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));
  const read = async (
    settings: { etcdUser?: string; etcdPassword?: string; etcdPasswordFile?: string },
    environment: Record<string, string> = {},
  ) => {
    const all = { ...none, ...given, etcdPassword: undefined, etcdPasswordFile: undefined, ...settings };
    return (await etcdOptions(nodeEnv, all, environment))?.auth;
  };

  test('from a file without its last line feed, from the settings, or else from the environment', async () => {
    const path = join(directory, 'password');
    await writeFile(path, 'hush \n');
    const environment = { SILVERBACK_ETCD_PASSWORD: 'env' };
    expect(await read({ etcdPasswordFile: path }, environment)).toEqual({ user: 'u', password: 'hush ' });
    expect(await read({ etcdPassword: 'conf' }, environment)).toEqual({ user: 'u', password: 'conf' });
    expect(await read({}, environment)).toEqual({ user: 'u', password: 'env' });
  });

  test('what does not go together is said', async () => {
    const missing = join(directory, 'none');
    await expect(read({})).rejects.toThrow(/--etcd-user u: there is no password in --etcd-password-file, SILVERBACK/);
    await expect(read({ etcdPasswordFile: missing })).rejects.toThrow(`--etcd-password-file: cannot read ${missing}`);
    await expect(read({ etcdPasswordFile: missing, etcdPassword: 'x' })).rejects.toThrow('etcd-password is given, too');
    const nobody = { ...none, ...given, etcdUser: undefined, etcdPassword: 'x', etcdPasswordFile: undefined };
    await expect(etcdOptions(nodeEnv, nobody, {})).rejects.toThrow('--etcd-user is missing');
  });
});
