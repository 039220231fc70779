/** From the settings of a process to the etcd that keeps its meta store. */
import type { Settings } from '../config.ts';
import type { Env } from '../env/env.ts';
import { SilverbackError } from '../errors.ts';
import type { EtcdOptions } from './etcd.ts';

/** For a program's list of settings. */
export const ETCD_SETTINGS = [
  'etcd',
  'etcdPrefix',
  'etcdCa',
  'etcdCert',
  'etcdKey',
  'etcdUser',
  'etcdPasswordFile',
  'etcdPassword',
] as const;

const PASSWORD_VARIABLE = 'SILVERBACK_ETCD_PASSWORD';

/**
 * @param environment of the process; it may hold the password
 * @returns undefined when the meta store is not kept in etcd
 * @throws SilverbackError INVALID_ARGUMENT for flags that do not go together or files that cannot be read
 */
export async function etcdOptions(
  env: Env,
  settings: Settings<(typeof ETCD_SETTINGS)[number]>,
  environment: { readonly [name: string]: string | undefined },
): Promise<EtcdOptions | undefined> {
  const { etcd, etcdPrefix, etcdCa, etcdCert, etcdKey, etcdUser, etcdPasswordFile, etcdPassword } = settings;
  const read = async (flag: string, path: string): Promise<Uint8Array> => {
    try {
      return await env.disk.readFile(path);
    } catch (error) {
      throw new SilverbackError('INVALID_ARGUMENT', `--${flag}: cannot read ${path}: ${(error as Error).message}`);
    }
  };
  const together = (one: string, a: unknown, other: string, b: unknown): void => {
    if ((a === undefined) !== (b === undefined)) {
      throw new SilverbackError('INVALID_ARGUMENT', `--${one} and --${other} go together, one of them is missing`);
    }
  };
  if (etcd === undefined) {
    if (etcdCa ?? etcdCert ?? etcdKey ?? etcdUser ?? etcdPasswordFile ?? etcdPassword) {
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        '--etcd is missing: without it no other --etcd- flag means anything',
      );
    }
    return undefined;
  }
  together('etcd-cert', etcdCert, 'etcd-key', etcdKey);
  if (etcdCert !== undefined && etcdCa === undefined) {
    throw new SilverbackError('INVALID_ARGUMENT', '--etcd-cert: --etcd-ca is missing, without it there is no TLS');
  }
  if (etcdUser === undefined && (etcdPasswordFile ?? etcdPassword) !== undefined) {
    throw new SilverbackError('INVALID_ARGUMENT', '--etcd-user is missing: there is a password of etcd, and no user');
  }
  const password = async (): Promise<string> => {
    if (etcdPasswordFile !== undefined && etcdPassword !== undefined) {
      throw new SilverbackError('INVALID_ARGUMENT', '--etcd-password-file: etcd-password is given, too');
    }
    const found =
      etcdPasswordFile === undefined
        ? (etcdPassword ?? environment[PASSWORD_VARIABLE])
        : // Editors and `echo` end a file with a line feed.
          new TextDecoder().decode(await read('etcd-password-file', etcdPasswordFile)).replace(/\r?\n$/, '');
    if (found !== undefined && found !== '') return found;
    const where = etcdPasswordFile ?? `--etcd-password-file, ${PASSWORD_VARIABLE} or the --config file`;
    throw new SilverbackError('INVALID_ARGUMENT', `--etcd-user ${etcdUser}: there is no password in ${where}`);
  };
  return {
    endpoints: etcd,
    prefix: etcdPrefix,
    ...(etcdCa === undefined
      ? {}
      : {
          tls: {
            ca: await read('etcd-ca', etcdCa),
            ...(etcdCert === undefined ? {} : { cert: await read('etcd-cert', etcdCert) }),
            ...(etcdKey === undefined ? {} : { key: await read('etcd-key', etcdKey) }),
          },
        }),
    ...(etcdUser === undefined ? {} : { auth: { user: etcdUser, password: await password() } }),
  };
}
