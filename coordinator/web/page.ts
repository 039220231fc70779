/**
 * Serves the web page. Everything is read, hashed and compressed once, when it is registered: the page needs no disk
 * afterwards, and no other machine ever.
 *
 * All assets live under `/assets/<version>/`, the version being a hash of their bytes. Modules import one another by
 * relative path, so one new byte anywhere moves the whole tree: assets may be cached for ever and never mix.
 * Packages come from node_modules as they are; an import map gives them their addresses.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** Packages that the browser imports, and the ES module each ships beside its main file. */
const PACKAGES: Readonly<Record<string, string>> = {
  uplot: 'uPlot.esm.js',
  '@lezer/common': 'index.js',
  '@lezer/highlight': 'index.js',
  '@lezer/lr': 'index.js',
  '@prometheus-io/lezer-promql': 'index.es.js',
};

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const ENTRY = 'browser/main.js';
const YEAR_SECONDS = 31_536_000;

interface Asset {
  readonly mediaType: string;
  readonly plain: Buffer;
  /** Undefined where compressing does not pay. */
  readonly gzipped: Buffer | undefined;
}

function asset(name: string, plain: Buffer): Asset {
  const mediaType = MEDIA_TYPES[extname(name)];
  if (mediaType === undefined) throw new Error(`web page: no media type is known for ${name}`);
  const gzipped = gzipSync(plain);
  return { mediaType, plain, gzipped: gzipped.length < plain.length ? gzipped : undefined };
}

/** Name below `/assets/<version>/` -> bytes, for the page's own files and the packages' modules. */
function readAssets(folder: string): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const name of ['page.css', 'icon.svg']) files.set(name, readFileSync(join(folder, name)));
  for (const name of readdirSync(join(folder, 'browser')).sort()) {
    if (!name.endsWith('.js')) continue;
    const bytes = readFileSync(join(folder, 'browser', name));
    // A module of nothing but types: nobody imports it once it is compiled.
    if (!bytes.toString().endsWith('export {};\n')) files.set(`browser/${name}`, bytes);
  }
  const { resolve } = createRequire(import.meta.url);
  for (const [specifier, file] of Object.entries(PACKAGES)) {
    files.set(`packages/${specifier}.js`, readFileSync(join(dirname(resolve(specifier)), file)));
  }
  files.set('packages/uplot.css', readFileSync(join(dirname(resolve('uplot')), 'uPlot.min.css')));
  return files;
}

function hash(parts: Iterable<string | Buffer>): string {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part);
  return sum.digest('base64url').slice(0, 16);
}

/**
 * Adds `/` and `/assets/*` to `app`. `folder` holds `page.html`, `page.css`, `icon.svg` and the compiled `browser/`;
 * by default it is where this module was compiled to. Throws when a file is missing (the build has not run).
 */
export function registerPage(app: FastifyInstance, folder: string = dirname(fileURLToPath(import.meta.url))): void {
  const files = readAssets(folder);
  if (!files.has(ENTRY)) throw new Error(`web page: ${join(folder, ENTRY)} is missing: run npm run build`);
  const base = `/assets/${hash([...files].flat())}`;
  const assets = new Map([...files].map(([name, bytes]) => [name, asset(name, bytes)]));

  const importMap = JSON.stringify({
    imports: Object.fromEntries(Object.keys(PACKAGES).map((name) => [name, `${base}/packages/${name}.js`])),
  });
  const modules = [
    `<script type="importmap">${importMap}</script>`,
    ...[...files.keys()]
      .filter((name) => name.endsWith('.js'))
      .map((name) => `<link rel="modulepreload" href="${base}/${name}">`),
  ].join('\n');
  // Replacements by function: `$` in a file must not be taken for a pattern.
  const html = readFileSync(join(folder, 'page.html'), 'utf8')
    .replaceAll('{{assets}}', () => base)
    .replace('<!-- modules -->', () => modules);
  const page = asset('page.html', Buffer.from(html));

  const policy = [
    "default-src 'none'",
    `script-src 'self' 'sha256-${createHash('sha256').update(importMap).digest('base64')}'`,
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; ');
  const etag = `"${hash([html, policy])}"`;

  function send(request: FastifyRequest, reply: FastifyReply, { mediaType, plain, gzipped }: Asset): FastifyReply {
    const zips = gzipped !== undefined && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    if (zips) reply.header('content-encoding', 'gzip');
    return reply
      .header('content-type', mediaType)
      .header('vary', 'accept-encoding')
      .header('x-content-type-options', 'nosniff')
      .send(zips ? gzipped : plain);
  }

  app.get('/', (request, reply) => {
    reply
      .header('cache-control', 'no-cache')
      .header('etag', etag)
      .header('content-security-policy', policy)
      .header('referrer-policy', 'no-referrer')
      .header('cross-origin-opener-policy', 'same-origin');
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    return send(request, reply, page);
  });

  app.get<{ Params: { '*': string } }>(`${base}/*`, (request, reply) => {
    const found = assets.get(request.params['*']);
    if (found === undefined) return reply.code(404).header('cache-control', 'no-store').send('no such asset\n');
    reply.header('cache-control', `public, max-age=${YEAR_SECONDS}, immutable`);
    return send(request, reply, found);
  });
}
