/** How the page is served: what a browser is told, without one. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { type FastifyInstance, fastify } from 'fastify';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { registerPage } from '../../coordinator/web/page.ts';
import { BUILT } from './canned.ts';

describe('the page', () => {
  let app: FastifyInstance;

  beforeAll(() => {
    app = fastify();
    registerPage(app, BUILT);
  });
  afterAll(() => app.close());

  const assetsOf = (html: string) =>
    [...html.matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g)].map(([, path]) => path as string);

  test('is asked for again each time, and not sent twice', async () => {
    const first = await app.inject('/');
    expect(first.statusCode).toBe(200);
    expect(first.headers['cache-control']).toBe('no-cache');
    const again = await app.inject({ url: '/', headers: { 'if-none-match': String(first.headers['etag']) } });
    expect(again.statusCode).toBe(304);
    expect(again.body).toBe('');
  });

  test('allows no script but its own', async () => {
    const { headers, body } = await app.inject('/');
    const policy = String(headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    const inline = [...body.matchAll(/<script(?![^>]*\bsrc=)[^>]*>([^<]*)<\/script>/g)].map(
      ([, text]) => text as string,
    );
    expect(inline).toHaveLength(1);
    for (const text of inline) {
      expect(policy).toContain(`'sha256-${createHash('sha256').update(text).digest('base64')}'`);
    }
    expect(body).not.toMatch(/\son\w+=|style="/);
  });

  test('names no other machine', async () => {
    const { body } = await app.inject('/');
    expect(body).not.toMatch(/https?:\/\//);
    expect(body).not.toContain('{{');
  });

  test('every asset it names is there, for ever, compressed where that is understood', async () => {
    const { body } = await app.inject('/');
    const paths = assetsOf(body);
    expect(paths.length).toBeGreaterThan(15);
    for (const url of paths) {
      const plain = await app.inject(url);
      expect(plain.statusCode, url).toBe(200);
      expect(plain.headers['cache-control']).toContain('immutable');
      expect(plain.headers['x-content-type-options']).toBe('nosniff');
      const zipped = await app.inject({ url, headers: { 'accept-encoding': 'gzip, br' } });
      expect(zipped.headers['content-type']).toBe(plain.headers['content-type']);
      if (plain.rawPayload.length < 1000) continue;
      expect(zipped.headers['content-encoding'], url).toBe('gzip');
      expect(zipped.rawPayload.length).toBeLessThan(plain.rawPayload.length);
    }
  });

  test('what is no asset is not found, and not remembered', async () => {
    const { body } = await app.inject('/');
    const base = assetsOf(body)[0]?.split('/').slice(0, 3).join('/');
    for (const path of ['browser/none.js', '../page.js', '%2e%2e/page.js', 'browser/../../page.js']) {
      const { statusCode, headers } = await app.inject(`${base}/${path}`);
      expect(statusCode, path).toBe(404);
      expect(headers['cache-control'] ?? '').not.toContain('immutable');
    }
  });

  test('says what to do when it was not built', () => {
    expect(() => registerPage(fastify(), resolve(import.meta.dirname, '../../coordinator/web'))).toThrow(
      /npm run build/,
    );
  });
});
