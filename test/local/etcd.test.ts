/** A cluster of real processes whose meta store is a real etcd, which dies for a while. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { Authority } from '../meta/authority.ts';
import { ETCD, EtcdServer } from '../meta/etcd-server.ts';
import { eventually, freeHttpPort, query, Run, remoteWrite, Sandbox } from './cluster.ts';

describe.runIf(ETCD !== undefined)('a cluster on etcd', () => {
  const sandbox = new Sandbox();
  let etcd: EtcdServer | undefined;
  afterEach(async () => {
    await sandbox.close();
    await etcd?.stop();
  });

  test('it writes and answers with etcd and without, and nothing moves when etcd comes back', async () => {
    etcd = await EtcdServer.start();
    const { url, run } = await sandbox.cluster(
      await sandbox.directory(),
      ...['--etcd', etcd.address, '--no-self-monitoring'],
    );
    const placed = async () => (await etcd!.values('silverback/placement/'))[0];
    const before = await placed();
    expect(before?.value).toContain('east-2');

    const startMs = Date.now() - 60_000;
    let written = 0;
    // Sixteen series: some of every node's shards.
    const write = async (): Promise<void> => {
      written++;
      const body = Array.from({ length: 16 }, (_, i) => ({
        labels: [
          ['__name__', 'deeds'],
          ['i', String(i)],
        ] as const,
        samples: [[startMs + written * 1_000, written]] as const,
      }));
      const response = await remoteWrite(url, body);
      expect(response.status, await response.text()).toBe(204);
    };
    const told = async () => (await query(url, 'sum(count_over_time(deeds[10m]))'))[0]?.value[1];
    await write();
    await eventually(async () => expect(await told()).toBe('16'));

    await etcd.kill();
    // Longer than the nodes' leases: they would be gone, had etcd lived.
    for (const untilMs = performance.now() + 12_000; performance.now() < untilMs; ) {
      await write();
      expect(await told()).toBe(String(16 * written));
      await new Promise((wake) => setTimeout(wake, 500));
    }

    await etcd.restart();
    await eventually(async () => expect(await etcd!.values('silverback/nodes/')).toHaveLength(4));
    await write();
    expect(await told()).toBe(String(16 * written));
    const after = await placed();
    expect([after?.value, after?.revision]).toEqual([before?.value, before?.revision]);
    expect(run.output).not.toContain('runs again');
  });

  test('certificates and a user reach every process; a mistake in them is one line, and the end', async () => {
    const { server, secured } = await EtcdServer.startSecured();
    etcd = server;
    await etcd.enableAuth('silverback', 'right', 'silverback/');
    const files = await sandbox.directory();
    const file = async (name: string, text: string): Promise<string> => {
      await writeFile(join(files, name), text);
      return join(files, name);
    };
    const good = {
      'etcd-ca': await file('ca.pem', secured.authority.cert),
      'etcd-cert': await file('cert.pem', secured.client.cert),
      'etcd-key': await file('key.pem', secured.client.key),
      'etcd-user': 'silverback',
      'etcd-password-file': await file('password', 'right\n'),
    };
    const args = (settings: Record<string, string>): string[] => [
      ...['--etcd', server.address, '--no-self-monitoring', '--regions', '1'],
      ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    ];
    const wrong = [
      ['etcd-ca', await file('other.pem', (await Authority.create('another')).cert), /not signed by .* --etcd-ca/],
      ['etcd-password-file', await file('wrong', 'wrong'), /it does not take user silverback with this password/],
    ] as const;
    for (const [name, value, expected] of wrong) {
      const run = new Run([
        ...['--http-port', String(await freeHttpPort()), '--data-dir', join(await sandbox.directory(), 'data')],
        ...args({ ...good, [name]: value }),
      ]);
      expect(await run.exited).toBe(1);
      expect(run.lines).toHaveLength(1);
      expect(run.lines[0]).toMatch(expected);
      expect(run.lines[0]).toContain(`etcd at ${server.address}: `);
    }
    const { url } = await sandbox.cluster(await sandbox.directory(), ...args(good));
    const body = [{ labels: [['__name__', 'deeds']] as const, samples: [[Date.now(), 1]] as const }];
    expect((await remoteWrite(url, body)).status).toBe(204);
    await eventually(async () => expect(await query(url, 'deeds')).toHaveLength(1));
  });
});
