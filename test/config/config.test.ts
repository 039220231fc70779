import { describe, expect, test } from 'vitest';
import { parseConfig, parseDurationMs, parseSizeBytes, readSettings, writtenSettings } from '../../core/config.ts';

const FILES: Record<string, string> = {
  'good.yaml': 'http-port: 9999\nmax-sample-age: off\nmemory-budget: 1.5GiB\nnodes: 3\n',
  'empty.yaml': '# nothing\n',
  'bad.yaml': 'http-port: 9999\nnodes: many\n',
};

async function run(...argv: string[]) {
  const printed: string[] = [];
  const settings = await readSettings({
    name: 'test',
    description: 'a test',
    settings: [
      'httpPort',
      'nodeCount',
      'maxSampleAgeMs',
      'selfMonitoring',
      'shardCount',
      'memoryBudgetBytes',
      'dataDir',
      'peerAddresses',
    ],
    defaults: { dataDir: '/elsewhere' },
    argv,
    readFile: async (path) => {
      const text = FILES[path];
      if (text === undefined) throw new Error('ENOENT: no such file');
      return Buffer.from(text);
    },
    print: (text) => printed.push(text),
  });
  return { settings, printed: printed.join('') };
}

describe('settings', () => {
  test('have defaults', async () => {
    expect((await run()).settings).toEqual({
      httpPort: 9090,
      nodeCount: 2,
      maxSampleAgeMs: 26 * 3_600_000,
      selfMonitoring: true,
      shardCount: undefined,
      memoryBudgetBytes: 2 * 2 ** 30,
      dataDir: '/elsewhere',
      peerAddresses: undefined,
    });
  });

  test('are written as they are read', async () => {
    const { settings } = await run('--config', 'good.yaml');
    const written = {
      'http-port': '9999',
      'data-dir': '/elsewhere',
      nodes: '3',
      'max-sample-age': 'off',
      'memory-budget': '1536MiB',
      'self-monitoring': 'true',
    };
    expect(writtenSettings(settings ?? {})).toEqual(written);
    expect(writtenSettings({ etcdPassword: 'hush' })).toEqual({ 'etcd-password': '<secret>' });
    expect(writtenSettings({ maxSampleAgeMs: 95_400_500 })).toEqual({ 'max-sample-age': '26h30m500ms' });
  });

  test('come from the file, and flags win', async () => {
    const { settings } = await run('--config', 'good.yaml', '--nodes', '5', '--no-self-monitoring', '--shards', '32');
    expect(settings).toMatchObject({
      httpPort: 9999,
      nodeCount: 5,
      maxSampleAgeMs: Number.POSITIVE_INFINITY,
      memoryBudgetBytes: 1.5 * 2 ** 30,
      selfMonitoring: false,
      shardCount: 32,
    });
    expect((await run('--config', 'empty.yaml')).settings?.httpPort).toBe(9090);
  });

  test('addresses of peers add up, from flags and from the file', async () => {
    const { settings } = await run('--peer-address', 'eu/a=h:1', '--peer-address', 'us/b=h:2,us/c=[::1]:3');
    const peers = new Map([
      ['eu/a', 'h:1'],
      ['us/b', 'h:2'],
      ['us/c', '[::1]:3'],
    ]);
    expect(settings?.peerAddresses).toEqual(peers);
    expect(parseConfig('peer-address: eu/a=h:1, us/b=h:2,us/c=[::1]:3', 'f')).toEqual({ peerAddresses: peers });
    expect(writtenSettings({ peerAddresses: peers })).toEqual({ 'peer-address': 'eu/a=h:1,us/b=h:2,us/c=[::1]:3' });
    for (const bad of ['a=h:1', 'eu/a', 'eu/a=h', 'eu/a=h:1,eu/a=h:2', 'eu/a=h:1=2', '']) {
      await expect(run('--peer-address', bad)).rejects.toThrow(
        `--peer-address: expected REGION/NODE=HOST:PORT, each node once, with commas between, got "${bad}"`,
      );
    }
  });

  test('help is printed, with every flag and its default', async () => {
    const { settings, printed } = await run('--help');
    expect(settings).toBeUndefined();
    for (const flag of ['--http-port <N>', '--no-self-monitoring', '(default 26h)', '--config <FILE>'])
      expect(printed).toContain(flag);
  });

  test.each([[['--etcd-password', 'hush']], [['--etcd-password=hush']]])('%j: secrets have no flag', async (argv) => {
    const program = {
      name: 't',
      description: '',
      readFile: () => Promise.reject(new Error('no file')),
      print: () => undefined,
    };
    await expect(readSettings({ ...program, settings: ['etcdUser', 'etcdPassword'], argv })).rejects.toThrow(
      /^--etcd-password: secrets are not taken from the command line, .* give --etcd-password-file, or etcd-password in/,
    );
  });

  test.each([
    [['--http-port', 'x'], '--http-port: expected a whole number from 1 to 65000, got "x"'],
    [['--http-port', '70000'], '--http-port: expected a whole number from 1 to 65000, got "70000"'],
    [['--nodes', '0'], '--nodes: expected a whole number from 1 to 64, got "0"'],
    [['--shards', '12'], '--shards: expected a power of two from 1 to 65536, got "12"'],
    [
      ['--max-sample-age', 'yesterday'],
      '--max-sample-age: expected a duration such as 26h or 90m, or off, got "yesterday"',
    ],
    [['--http-prot', '1'], "unknown option '--http-prot' (Did you mean --http-port?) (try --help)"],
    [['extra'], 'too many arguments. Expected 0 arguments but got 1. (try --help)'],
    [['--nodes'], "option '--nodes <N>' argument missing (try --help)"],
    [['--config', 'none.yaml'], '--config: cannot read none.yaml: ENOENT: no such file'],
    [['--config', 'bad.yaml'], 'bad.yaml:2: nodes: expected a whole number from 1 to 64, got "many"'],
  ])('%j is refused in one line', async (argv, message) => {
    await expect(run(...argv)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message });
  });
});

describe('a configuration file', () => {
  test.each([
    ['http-port: 9090\nhttp-port: 9091\n', /^f:2: Map keys must be unique/],
    ['a: [1\n', /^f:2: /],
    ['- 1\n- 2\n', /^f: expected lines of "setting: value"/],
    ['\nhttp-prot: 1\n', /^f:2: http-prot: no such setting; there are http-port, /],
    ['nodes: [1, 2]\n', /^f:1: nodes: expected a whole number from 1 to 64, got \[1,2\]$/],
    ['nodes: 2.5\n', /^f:1: nodes: expected a whole number/],
    ['self-monitoring: maybe\n', /^f:1: self-monitoring: expected true or false, got "maybe"$/],
    ['nodes:\n', /^f:1: nodes: expected a whole number from 1 to 64, got null$/],
    ['data-dir: ""\n', /^f:1: data-dir: expected a text that is not empty/],
    ['listen: nowhere\n', /^f:1: listen: expected HOST:PORT/],
  ])('%j names the key and what was expected', (text, message) => {
    expect(() => parseConfig(text, 'f')).toThrow(message);
  });
});

test('durations', () => {
  const cases: [string, number | undefined][] = [
    ['26h', 93_600_000],
    ['1h30m', 5_400_000],
    ['1d', 86_400_000],
    ['500ms', 500],
    ['1m500ms', 60_500],
    ['0s', 0],
    ['', undefined],
    ['1', undefined],
    ['30m1h', undefined],
    ['-1h', undefined],
    ['1.5h', undefined],
    ['99999999999y', undefined],
  ];
  for (const [text, ms] of cases) expect(parseDurationMs(text), text).toBe(ms);
});

test('sizes', () => {
  const cases: [string, number | undefined][] = [
    ['512MiB', 2 ** 29],
    ['2GB', 2e9],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['1024', 1024],
    ['7B', 7],
    ['GB', undefined],
    ['-1GB', undefined],
    ['1EB', undefined],
  ];
  for (const [text, bytes] of cases) expect(parseSizeBytes(text), text).toBe(bytes);
});
