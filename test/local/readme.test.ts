/** The README's commands and program, run as they stand there (but for the ports, which are free ones here). */
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../../core/config.ts';
import { eventually, query, Sandbox } from './cluster.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const run = promisify(execFile);
const readme = await readFile(join(ROOT, 'README.md'), 'utf8');

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, 'g'))].map((match) => match[1]!);
}

describe('the README', () => {
  const sandbox = new Sandbox();
  let url = '';
  let withPorts: (text: string) => string;

  beforeAll(async () => {
    const cluster = await sandbox.cluster(await sandbox.directory());
    ({ url } = cluster);
    withPorts = (text) =>
      text
        .replaceAll('127.0.0.1:9090', `127.0.0.1:${cluster.httpPort}`)
        .replaceAll('127.0.0.1:9095', `127.0.0.1:${cluster.httpPort + 5}`);
    await eventually(async () => expect(await query(url, 'up')).toHaveLength(6));
  });
  afterAll(() => sandbox.close());

  test('its queries are answered, none of them emptily', async () => {
    const commands = blocks('sh').flatMap((block) => block.trim().split('\n'));
    expect(commands.length).toBeGreaterThan(4);
    for (const command of commands) {
      await eventually(async () => {
        const { stdout } = await run('bash', ['-c', withPorts(command)]);
        const answer = JSON.parse(stdout) as { status: string; data: unknown[] | { result: unknown[] } };
        expect(answer.status, command).toBe('success');
        const found = Array.isArray(answer.data) ? answer.data : answer.data.result;
        expect(found.length, command).toBeGreaterThan(0);
      });
    }
  });

  test('its program writes and reads', async () => {
    const [program] = blocks('js');
    // Beside the README, because of its relative import.
    const folder = join(ROOT, 'node_modules/.cache/silverback-readme');
    const file = join(folder, 'example.mjs');
    await mkdir(folder, { recursive: true });
    await writeFile(file, withPorts(program!).replace("'./dist/", `'${ROOT}/dist/`));
    const { stdout } = await run(process.execPath, [file]);
    await rm(folder, { recursive: true });
    expect(stdout).toContain("room: 'kitchen'");
    expect(stdout).toContain("'21.5'");
    const written = '{__name__=~"logins_total|request_duration_seconds_count|queue_length"}';
    expect((await query(url, written)).map(({ value }) => value[1]).sort()).toEqual(['1', '1', '7']);
  });

  test('its configuration file is one', () => {
    const [config] = blocks('yaml');
    expect(parseConfig(config!, 'README.md')).toMatchObject({
      nodeCount: 4,
      selfMonitoring: false,
      lookbackMs: 300_000,
    });
  });

  test('its table has every flag', async () => {
    const { stdout } = await run('npm', ['start', '--silent', '--', '--help'], { cwd: ROOT });
    const flags = [...stdout.matchAll(/^ +(--[a-z-]+)/gm)].map((match) => match[1]!);
    expect(flags.length).toBeGreaterThan(8);
    for (const flag of flags) expect(readme, flag).toContain(`| \`${flag}`);
  });
});
