/**
 * Each region as a network of its own: three namespaces of this machine, `<prefix>-east` and `<prefix>-west`, and between them
 * `<prefix>-mid`, which routes and in which the run itself lives. A packet that is dropped there is lost without a word, as in a
 * real network: connections stand, and go on when the senders try again. Nothing leaves the three. Takes root.
 */
import { spawnSync } from 'node:child_process';
import { REGIONS, type Region } from './places.ts';

/** From the range for private networks; nobody else sees them. */
const SUBNETS: Readonly<Record<Region, string>> = { east: '10.213.1', west: '10.213.2' };

export class Namespaces {
  readonly #prefix: string;

  /** Those that `create` made under this prefix. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** Throws what the system says where it does not allow it. */
  static create(prefix: string): Namespaces {
    const made = new Namespaces(prefix);
    try {
      made.#create();
    } catch (error) {
      made.remove();
      throw error;
    }
    return made;
  }

  /** The run's own address, for both regions. */
  readonly host = `${SUBNETS[REGIONS[0]]}.1`;

  hostOf(region: Region): string {
    return `${SUBNETS[region]}.2`;
  }

  /** The command that runs another one there. */
  within(where: Region | 'mid'): string[] {
    return ['ip', 'netns', 'exec', `${this.#prefix}-${where}`];
  }

  drop(from: Region, to: Region, isDropped: boolean): void {
    const which = ['iif', `to-${from}`, 'to', `${SUBNETS[to]}.0/24`, 'blackhole'];
    this.#mid('rule', isDropped ? 'add' : 'del', ...which);
  }

  remove(): void {
    for (const where of ['mid', ...REGIONS]) spawnSync('ip', ['netns', 'del', `${this.#prefix}-${where}`]);
  }

  #create(): void {
    const mid = `${this.#prefix}-mid`;
    ip('netns', 'add', mid);
    this.#mid('link', 'set', 'lo', 'up');
    for (const region of REGIONS) {
      const namespace = `${this.#prefix}-${region}`;
      const own = (...args: string[]) => ip('-n', namespace, ...args);
      ip('netns', 'add', namespace);
      ip('link', 'add', 'uplink', 'netns', namespace, 'type', 'veth', 'peer', 'name', `to-${region}`, 'netns', mid);
      own('addr', 'add', `${SUBNETS[region]}.2/24`, 'dev', 'uplink');
      own('link', 'set', 'lo', 'up');
      own('link', 'set', 'uplink', 'up');
      this.#mid('addr', 'add', `${SUBNETS[region]}.1/24`, 'dev', `to-${region}`);
      this.#mid('link', 'set', `to-${region}`, 'up');
      own('route', 'add', 'default', 'via', `${SUBNETS[region]}.1`);
    }
    run('ip', ['netns', 'exec', mid, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
    // Whether it can drop at all.
    this.drop(...REGIONS, true);
    this.drop(...REGIONS, false);
  }

  #mid(...args: string[]): void {
    ip('-n', `${this.#prefix}-mid`, ...args);
  }
}

function ip(...args: string[]): void {
  run('ip', args);
}

function run(program: string, args: readonly string[]): void {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  if (result.status === 0) return;
  throw new Error(`${program} ${args.join(' ')}: ${result.error?.message ?? result.stderr.trim()}`);
}
