/**
 * Settings of every program: one table, one row per setting. A row's name is its flag (`--max-sample-age`) and its key
 * in the YAML file (`max-sample-age`); a flag wins over the file, the file over the default. Every message names the
 * key, what was expected and what was found, and where.
 */
import { Command, CommanderError, Option } from 'commander';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { SilverbackError } from './errors.ts';
import { compileMatcher } from './matchers.ts';

const MILLISECONDS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_536_000_000 };
const BYTES = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/**
 * Reads a duration as Prometheus writes it: `26h`, `1h30m`, `500ms`. Units in falling order, each at most once.
 * @returns milliseconds, or undefined when `text` is no duration
 */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(text);
  if (match === null || text === '') return undefined;
  const units = ['y', 'w', 'd', 'h', 'm', 's', 'ms'] as const;
  const totalMs = units.reduce((sum, unit, i) => sum + Number(match[i + 1] ?? 0) * MILLISECONDS[unit], 0);
  return Number.isSafeInteger(totalMs) ? totalMs : undefined;
}

/**
 * Reads a size: `512MiB`, `2GB`, `1.5GiB`, or a plain number of bytes.
 * @returns bytes, or undefined when `text` is no size
 */
export function parseSizeBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)?$/.exec(text);
  if (match === null) return undefined;
  const bytes = Math.round(Number(match[1]) * BYTES[(match[2] ?? 'B') as keyof typeof BYTES]);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** A value from the file (any YAML scalar) or from a flag (always text), read by `read`, which answers undefined for a bad one. */
function value<T>(expected: string, read: (text: string) => T | undefined) {
  return z.unknown().transform((input, context): T => {
    const scalar = typeof input === 'string' || typeof input === 'number' || typeof input === 'boolean';
    const result = scalar ? read(String(input)) : undefined;
    if (result !== undefined) return result;
    context.issues.push({ code: 'custom', input, message: `expected ${expected}, got ${JSON.stringify(input)}` });
    return z.NEVER;
  });
}

function wholeNumber(least: number, most: number) {
  return value(`a whole number from ${least} to ${most}`, (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    return number >= least && number <= most ? number : undefined;
  });
}

const duration = value('a duration such as 10s, 5m or 26h', (text) => parseDurationMs(text) || undefined);
const durationOrOff = value('a duration such as 26h or 90m, or off', (text) =>
  // YAML 1.1 readers turn a bare `off` into false; ours (1.2) does not, but a person may write `false`.
  text === 'off' || text === 'false' ? Number.POSITIVE_INFINITY : parseDurationMs(text) || undefined,
);
const size = value('a size such as 512MiB or 2GB', (text) => parseSizeBytes(text) || undefined);
const text = value('a text that is not empty', (input) => input || undefined);
const name = value('1 to 63 letters, digits, dots, dashes or underscores', (input) =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(input) ? input : undefined,
);
const names = value('names of letters, digits, dots, dashes or underscores, with commas between them', (input) => {
  const list = input.split(',');
  return list.every((one) => /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(one)) ? list : undefined;
});
const address = value('HOST:PORT, such as 127.0.0.1:9095', (input) => {
  const match = /^(\[[0-9A-Fa-f:]+\]|[^\s:]+):(\d{1,5})$/.exec(input);
  return match !== null && Number(match[2]) <= 65_535 ? input : undefined;
});
const addresses = value('HOST:PORT, or several with commas between', (input) => {
  const list = input.split(',').map((one) => one.trim());
  return list.every((one) => address.safeParse(one).success) ? list : undefined;
});
const peerAddresses = value('REGION/NODE=HOST:PORT, each node once, with commas between', (input) => {
  const found = new Map<string, string>();
  for (const one of input.split(',')) {
    const [peer = '', at = '', ...rest] = one.trim().split('=');
    const isPeer = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(peer);
    if (!isPeer || rest.length > 0 || found.has(peer) || !address.safeParse(at).success) return undefined;
    found.set(peer, at);
  }
  return found;
});
const shardCount = value('a power of two from 1 to 65536', (input) => {
  const count = /^\d+$/.test(input) ? Number(input) : 0;
  return count >= 1 && count <= 65_536 && (count & (count - 1)) === 0 ? count : undefined;
});
const level = value('one of debug, info, warn, error', (input) =>
  ['debug', 'info', 'warn', 'error'].includes(input) ? input : undefined,
);
const pattern = value('a regular expression (RE2)', (input) => {
  try {
    compileMatcher({ name: '', op: '=~', value: input });
    return input;
  } catch {
    return undefined;
  }
});
const onOff = value('true or false', (input) => (input === 'true' ? true : input === 'false' ? false : undefined));

/**
 * Every setting. Properties carry the unit, `name` is what a person writes, `default` is written the same way (absent:
 * the setting has none). `operand: undefined` marks a switch: on unless `--no-<name>` is given, or off unless `--<name>` is.
 */
const SETTINGS = {
  httpPort: {
    name: 'http-port',
    operand: 'N',
    schema: wholeNumber(1, 65_000),
    default: '9090',
    help: 'port of the HTTP API and the page',
  },
  httpHost: {
    name: 'http-host',
    operand: 'HOST',
    schema: text,
    default: '127.0.0.1',
    help: 'address the HTTP API listens on',
  },
  listen: {
    name: 'listen',
    operand: 'HOST:PORT',
    schema: address,
    default: '127.0.0.1:9095',
    help: 'address the gRPC services listen on',
  },
  meta: {
    name: 'meta',
    operand: 'HOST:PORT',
    schema: address,
    default: '127.0.0.1:9095',
    help: 'where the meta store is (a coordinator)',
  },
  etcd: {
    name: 'etcd',
    operand: 'HOST:PORT,...',
    schema: addresses,
    default: undefined,
    help: 'keep the meta store in this etcd cluster, not in the coordinator',
  },
  etcdPrefix: {
    name: 'etcd-prefix',
    operand: 'TEXT',
    schema: text,
    default: 'silverback/',
    help: 'what all keys in etcd begin with',
  },
  etcdCa: {
    name: 'etcd-ca',
    operand: 'FILE',
    schema: text,
    default: undefined,
    help: 'PEM of the authority that signed the certificates of etcd: turns TLS on',
  },
  etcdCert: {
    name: 'etcd-cert',
    operand: 'FILE',
    schema: text,
    default: undefined,
    help: 'PEM of the certificate to show etcd',
  },
  etcdKey: { name: 'etcd-key', operand: 'FILE', schema: text, default: undefined, help: 'PEM of its private key' },
  etcdUser: { name: 'etcd-user', operand: 'NAME', schema: text, default: undefined, help: 'user of etcd' },
  etcdPasswordFile: {
    name: 'etcd-password-file',
    operand: 'FILE',
    schema: text,
    default: undefined,
    help: 'holds its password; it may also be in SILVERBACK_ETCD_PASSWORD, or in the --config file as etcd-password',
  },
  etcdPassword: {
    name: 'etcd-password',
    operand: 'TEXT',
    schema: text,
    default: undefined,
    help: 'password of the user of etcd',
    secret: true,
  },
  dataDir: { name: 'data-dir', operand: 'DIR', schema: text, default: './data', help: 'where data is kept' },
  nodeName: {
    name: 'name',
    operand: 'NAME',
    schema: name,
    default: 'node-1',
    help: 'name of this process in its region; keep it over restarts',
  },
  region: { name: 'region', operand: 'NAME', schema: name, default: 'local', help: 'region this process belongs to' },
  zone: { name: 'zone', operand: 'NAME', schema: name, default: 'a', help: 'failure zone this process belongs to' },
  peerAddresses: {
    name: 'peer-address',
    operand: 'REGION/NODE=HOST:PORT',
    schema: peerAddresses,
    default: undefined,
    help: 'reach this node there and not where it registered: through a proxy or tunnel',
    repeatable: true,
  },
  placedRegions: {
    name: 'place-regions',
    operand: 'NAME,...',
    schema: names,
    default: undefined,
    help: 'regions whose placement this process keeps (its own unless given)',
  },
  regionCount: { name: 'regions', operand: 'N', schema: wholeNumber(1, 16), default: '2', help: 'regions to run' },
  nodeCount: { name: 'nodes', operand: 'N', schema: wholeNumber(1, 64), default: '2', help: 'nodes in a region' },
  shardCount: {
    name: 'shards',
    operand: 'N',
    schema: shardCount,
    default: undefined,
    help: 'shards of a new cluster, a power of two (16 unless given)',
  },
  copyCount: {
    name: 'copies',
    operand: 'N',
    schema: wholeNumber(1, 16),
    default: undefined,
    help: 'copies of every shard in a region, in different zones where it can be (1 unless given)',
  },
  takeoverGraceMs: {
    name: 'takeover-grace',
    operand: 'DURATION',
    schema: duration,
    default: '1m',
    help: 'how long a node may be away before the data of its shards is brought elsewhere; its writes go elsewhere at once',
  },
  maxSampleAgeMs: {
    name: 'max-sample-age',
    operand: 'DURATION|off',
    schema: durationOrOff,
    default: '26h',
    help: 'oldest sample taken, and how long samples are kept',
  },
  memoryBudgetBytes: {
    name: 'memory-budget',
    operand: 'SIZE',
    schema: size,
    default: '2GiB',
    help: 'memory a node may fill with samples',
  },
  queryCacheBytes: {
    name: 'query-cache',
    operand: 'SIZE',
    schema: size,
    default: '64MiB',
    help: 'memory for the kept answers of range queries',
  },
  logBudgetBytes: {
    name: 'log-budget',
    operand: 'SIZE',
    schema: size,
    default: '4GiB',
    help: 'how much log a node keeps for copies that cannot be reached',
  },
  catchUpBytesPerSecond: {
    name: 'catch-up-rate',
    operand: 'SIZE',
    schema: size,
    default: '64MiB',
    help: 'what a node does in a second for copies that lag, at the most; less while writes wait longer for it',
  },
  frontierBoundMs: {
    name: 'frontier-bound',
    operand: 'DURATION',
    schema: duration,
    default: '30s',
    help: 'how long a copy may be silent before what it may have more is unconfirmed',
  },
  repairIntervalMs: {
    name: 'repair-interval',
    operand: 'DURATION|off',
    schema: durationOrOff,
    default: '5m',
    help: 'about how often copies are compared, or off',
  },
  moveBytesPerSecond: {
    name: 'move-rate',
    operand: 'SIZE',
    schema: size,
    default: '32MiB',
    help: 'what a node gives a second to copies that move or are repaired; a quarter of it while writes are under way',
  },
  seriesPerShard: {
    name: 'series-per-shard',
    operand: 'N',
    schema: wholeNumber(1, 100_000_000),
    default: '1000000',
    help: 'series a shard takes',
  },
  maxExemplarCount: {
    name: 'max-exemplars',
    operand: 'N',
    schema: wholeNumber(1, 10_000_000),
    default: '100000',
    help: 'exemplars a node keeps, the latest of its shards in equal parts',
  },
  maxConnectionCount: {
    name: 'max-connections',
    operand: 'N',
    schema: wholeNumber(16, 1_000_000),
    default: '4096',
    help: 'connections that the gRPC services have at a time, and the HTTP API as many; more are closed at once',
  },
  leaseTtlMs: {
    name: 'lease-ttl',
    operand: 'DURATION',
    schema: duration,
    default: '10s',
    help: 'how long a silent node stays registered',
  },
  queryTimeoutMs: {
    name: 'query-timeout',
    operand: 'DURATION',
    schema: duration,
    default: '2m',
    help: 'how long a query may run',
  },
  lookbackMs: {
    name: 'lookback',
    operand: 'DURATION',
    schema: duration,
    default: '5m',
    help: 'how far back an instant looks for a sample',
  },
  corsOrigin: {
    name: 'cors-origin',
    operand: 'REGEX',
    schema: pattern,
    default: '.*',
    help: 'origins whose pages may use the HTTP API, as a whole',
  },
  selfMonitoring: {
    name: 'self-monitoring',
    operand: undefined,
    schema: onOff,
    default: 'true',
    help: 'do not store the metrics of the cluster and of this machine',
  },
  enableAdminApi: {
    name: 'enable-admin-api',
    operand: undefined,
    schema: onOff,
    default: 'false',
    help: 'let the HTTP API delete series',
  },
  logLevel: { name: 'log-level', operand: 'LEVEL', schema: level, default: 'info', help: 'debug, info, warn or error' },
} as const satisfies Record<string, Setting>;

interface Setting {
  /** Nobody is shown its value, and so there is no flag for it: any user of the machine sees command lines. */
  readonly secret?: true;
  /** Given more than once, as a flag, the values are put together with commas, as the file has them. */
  readonly repeatable?: true;
  readonly name: string;
  readonly operand: string | undefined;
  readonly schema: z.ZodType;
  readonly default: string | undefined;
  readonly help: string;
}

type SettingKey = keyof typeof SETTINGS;
type Value<K extends SettingKey> = z.output<(typeof SETTINGS)[K]['schema']>;

/** The chosen settings, read. Settings without a default may be undefined. `maxSampleAgeMs` is Infinity for `off`. */
export type Settings<K extends SettingKey> = {
  readonly [P in K]: (typeof SETTINGS)[P]['default'] extends undefined ? Value<P> | undefined : Value<P>;
};

export interface Program<K extends SettingKey> {
  /** As a person starts it: `npm start --`, `silverback-node`. */
  readonly name: string;
  readonly description: string;
  /** The settings this program has flags for. Keys of the file that only other programs use are checked and skipped. */
  readonly settings: readonly K[];
  /** Defaults that differ from the table's, written as a person writes them. */
  readonly defaults?: { readonly [P in K]?: string };
  /** Arguments without the program's own name: `process.argv.slice(2)`. */
  readonly argv: readonly string[];
  /** Reads the file that `--config` names. */
  readonly readFile: (path: string) => Promise<Uint8Array>;
  /** Takes the text of `--help`. */
  readonly print: (text: string) => void;
}

/**
 * Reads flags and file.
 * @returns the settings, or undefined when `--help` was asked for and printed
 * @throws SilverbackError INVALID_ARGUMENT with one line that names the key, the rule and the value
 */
export async function readSettings<K extends SettingKey>(program: Program<K>): Promise<Settings<K> | undefined> {
  const flags = parseFlags(program);
  if (flags === undefined) return undefined;
  const file = flags['config'] === undefined ? {} : await readConfigFile(flags['config'], program.readFile);
  const settings: Partial<Record<SettingKey, unknown>> = {};
  for (const key of program.settings) {
    const row: Setting = SETTINGS[key];
    const flag = flags[row.name];
    if (flag !== undefined) settings[key] = check(row, flag, `--${row.name}`);
    else if (file[key] !== undefined) settings[key] = file[key];
    else {
      const fallback = program.defaults?.[key] ?? row.default;
      settings[key] = fallback === undefined ? undefined : check(row, fallback, `default of --${row.name}`);
    }
  }
  return settings as Settings<K>;
}

/** Settings as a person writes them, by name; without those that have no value, secrets as `<secret>`. */
export function writtenSettings(settings: { readonly [P in SettingKey]?: unknown }): Record<string, string> {
  const written: Record<string, string> = {};
  for (const [key, { name: label, secret }] of Object.entries<Setting>(SETTINGS)) {
    const found = settings[key as SettingKey];
    if (found === undefined) continue;
    if (secret === true) written[label] = '<secret>';
    else if (found instanceof Map) written[label] = [...found].map(([peer, at]) => `${peer}=${at}`).join(',');
    else if (typeof found !== 'number') written[label] = String(found);
    else if (key.endsWith('Ms')) written[label] = found === Number.POSITIVE_INFINITY ? 'off' : writtenDuration(found);
    else written[label] = key.endsWith('Bytes') ? writtenSize(found) : String(found);
  }
  return written;
}

function writtenDuration(ms: number): string {
  let rest = ms;
  let text = '';
  for (const unit of ['h', 'm', 's', 'ms'] as const) {
    const count = Math.floor(rest / MILLISECONDS[unit]);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * MILLISECONDS[unit];
  }
  return text;
}

function writtenSize(bytes: number): string {
  for (const unit of ['TiB', 'GiB', 'MiB', 'KiB'] as const) {
    if (bytes % BYTES[unit] === 0) return `${bytes / BYTES[unit]}${unit}`;
  }
  return `${bytes}B`;
}

/** @returns the flags that were given, as text by name, or undefined after printing the help */
function parseFlags(program: Program<SettingKey>): Record<string, string> | undefined {
  const command = new Command(program.name)
    .description(program.description)
    .exitOverride()
    .allowExcessArguments(false)
    .helpOption('--help', 'print this and exit')
    .configureOutput({ writeOut: program.print, writeErr: () => undefined });
  for (const key of program.settings) {
    const row: Setting = SETTINGS[key];
    if (row.secret === true) {
      refuseFlag(row, program.argv);
      continue;
    }
    const fallback = program.defaults?.[key] ?? row.default;
    const flag =
      row.operand !== undefined
        ? `--${row.name} <${row.operand}>`
        : `--${fallback === 'false' ? '' : 'no-'}${row.name}`;
    const note = row.operand === undefined || fallback === undefined ? '' : ` (default ${fallback})`;
    const option = new Option(flag, row.help + note);
    if (row.repeatable === true) {
      option.argParser((one: string, before?: string) => (before === undefined ? one : `${before},${one}`));
    }
    command.addOption(option);
  }
  command.addOption(new Option('--config <FILE>', 'YAML file with any of these settings; a flag wins over the file'));
  try {
    command.parse(program.argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') return undefined;
    const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ');
    throw new SilverbackError('INVALID_ARGUMENT', `${message} (try --help)`);
  }
  const given: Record<string, string> = {};
  for (const option of command.options) {
    if (command.getOptionValueSource(option.attributeName()) !== 'cli') continue;
    given[option.long?.replace(/^--(no-)?/, '') ?? ''] = String(command.getOptionValue(option.attributeName()));
  }
  return given;
}

function refuseFlag({ name }: Setting, argv: readonly string[]): void {
  if (!argv.some((arg) => arg === `--${name}` || arg.startsWith(`--${name}=`))) return;
  const message = `--${name}: secrets are not taken from the command line, where other users see them: give --${name}-file`;
  throw new SilverbackError('INVALID_ARGUMENT', `${message}, or ${name} in the --config file`);
}

function check(row: Setting, input: unknown, where: string): unknown {
  const result = row.schema.safeParse(input);
  if (result.success) return result.data;
  throw new SilverbackError('INVALID_ARGUMENT', `${where}: ${result.error.issues[0]?.message ?? 'bad value'}`);
}

async function readConfigFile(path: string, readFile: Program<SettingKey>['readFile']): Promise<FileSettings> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new SilverbackError('INVALID_ARGUMENT', `--config: cannot read ${path}: ${(error as Error).message}`);
  }
  return parseConfig(new TextDecoder().decode(bytes), path);
}

type FileSettings = { [P in SettingKey]?: Value<P> };

/**
 * Reads the text of a configuration file: a YAML mapping from setting names to values.
 * @param origin names the file in messages
 * @throws SilverbackError INVALID_ARGUMENT, one line: file, line, key, what was expected, what was found
 */
export function parseConfig(text: string, origin: string): FileSettings {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) {
    throw new SilverbackError('INVALID_ARGUMENT', `${origin}:${lines.linePos(broken.pos[0]).line}: ${broken.message}`);
  }
  const content: unknown = document.toJS();
  if (content === null || content === undefined) return {};
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `${origin}: expected lines of "setting: value", got ${typeof content}`,
    );
  }
  const settings: Record<string, unknown> = {};
  for (const [written, input] of Object.entries(content)) {
    const node: unknown = document.get(written, true);
    const range = node !== null && typeof node === 'object' && 'range' in node ? (node.range as [number] | null) : null;
    const where = range ? `${origin}:${lines.linePos(range[0]).line}: ${written}` : `${origin}: ${written}`;
    const row = Object.entries(SETTINGS).find(([, setting]) => setting.name === written);
    if (row === undefined) {
      const known = Object.values(SETTINGS).map((setting) => setting.name);
      throw new SilverbackError('INVALID_ARGUMENT', `${where}: no such setting; there are ${known.join(', ')}`);
    }
    settings[row[0]] = check(row[1], input, where);
  }
  return settings as FileSettings;
}
