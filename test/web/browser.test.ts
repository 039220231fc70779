/** The page in a real Chromium, against canned answers. */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Canned, startCanned } from './canned.ts';
import { type Browser, CHROMIUM, startBrowser } from './chromium.ts';

describe.runIf(CHROMIUM !== undefined)('the page in a browser', () => {
  let browser: Browser;
  let server: Canned;
  let page: Page;
  /** Everything the browser complained of: errors in scripts, what the policy forbade, what was not found. */
  let complaints: string[];

  beforeAll(async () => {
    browser = await startBrowser(CHROMIUM as string);
  });
  afterAll(() => browser?.close());

  beforeEach(async () => {
    complaints = [];
    server = await startCanned();
    page = await browser.context.newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(server.url)) complaints.push(`asked another machine: ${request.url()}`);
    });
  });
  afterEach(async () => {
    await page.close();
    await server.close();
    expect(complaints).toEqual([]);
  });

  const open = (path = '/') => page.goto(server.url + path);
  const box = () => page.getByLabel('PromQL query');
  const legend = () => page.getByRole('list', { name: 'Legend' }).getByRole('button');
  const summary = (text: RegExp) => page.locator('#summary').filter({ hasText: text }).waitFor();
  const said = (text: string | RegExp) => page.getByText(text).first().waitFor();
  const lastAsked = (path: string) => server.asked.findLast((asked) => asked.path.endsWith(path))?.parameters;
  const count = (path: string) => server.asked.filter((asked) => asked.path.endsWith(path)).length;

  test('a typed query is drawn, and stands in the address', async () => {
    await open();
    await box().pressSequentially('cpu_seconds_total');
    await page.keyboard.press('Enter');
    await summary(/4 series.*1,444 points.*step 10s.*complete/);
    expect(await legend().allTextContents()).toEqual([0, 1, 2, 3].map((cpu) => expect.stringMatching(`cpu="${cpu}"`)));
    await said('cpu_seconds_total{instance="host-a:9100", job="node"}');
    expect(new URL(page.url()).search).toBe('?q=cpu_seconds_total');
    expect(await page.title()).toBe('cpu_seconds_total \u00b7 Silverback');
    const { inked, colours } = await page.locator('.uplot canvas').evaluate((node) => {
      const canvas = node as unknown as {
        width: number;
        height: number;
        getContext(kind: '2d'): {
          getImageData(x: number, y: number, w: number, h: number): { data: Uint8ClampedArray };
        };
      };
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Set<number>();
      let dots = 0;
      for (let i = 0; i < data.length; i += 4) {
        if ((data[i + 3] as number) < 200) continue;
        dots++;
        seen.add(((data[i] as number) << 16) | ((data[i + 1] as number) << 8) | (data[i + 2] as number));
      }
      return { inked: dots, colours: seen.size };
    });
    expect(inked).toBeGreaterThan(1000);
    expect(colours).toBeGreaterThan(4);
  });

  test('back and forward go through queries; a bookmark opens the same', async () => {
    await open('/?q=one&range=15m&tab=table');
    await summary(/1 series.*complete/);
    await page.getByRole('tab', { name: 'Graph' }).click();
    await summary(/step 5s/);
    expect(Number(lastAsked('query_range')?.get('end')) - Number(lastAsked('query_range')?.get('start'))).toBe(900);
    await page.getByRole('button', { name: '6h' }).click();
    await summary(/step 1m/);
    await page.goBack();
    await summary(/step 5s/);
    await page.goBack();
    await page.getByRole('cell', { name: /one\{/ }).waitFor();
    expect(await page.getByRole('tab', { name: 'Table' }).getAttribute('aria-selected')).toBe('true');
    await page.goForward();
    await summary(/step 5s/);
  });

  test('Shift+Enter starts a line, Enter runs', async () => {
    await open();
    await box().focus();
    const before = (await box().boundingBox())?.height ?? 0;
    await page.keyboard.type('sum(');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('  x)');
    expect((await box().boundingBox())?.height).toBeGreaterThan(before);
    expect(server.asked.some(({ path }) => path.endsWith('query_range'))).toBe(false);
    await page.keyboard.press('Enter');
    await summary(/0 series/);
    expect(lastAsked('query_range')?.get('query')).toBe('sum(\n  x)');
  });

  test('completes functions, metrics, labels and values with the keyboard alone', async () => {
    await open();
    await box().focus();
    await page.keyboard.type('ra');
    await page.getByRole('option').first().waitFor();
    await page.keyboard.press('Tab');
    expect(await box().inputValue()).toBe('rate()');
    await page.keyboard.type('http_r');
    await page.getByRole('option', { name: 'http_requests_total' }).waitFor();
    await page.keyboard.press('ArrowDown');
    expect(await box().getAttribute('aria-activedescendant')).toBe('suggestion-0');
    await page.keyboard.press('Enter');
    expect(await box().inputValue()).toBe('rate(http_requests_total)');
    await page.keyboard.type('{');
    await page.getByRole('option', { name: 'cpu' }).waitFor();
    expect(lastAsked('/labels')?.get('match[]')).toBe('{__name__="http_requests_total"}');
    await page.keyboard.press('Tab');
    await page.keyboard.type('="a');
    await page.getByRole('option', { name: 'a\\"b' }).waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.type('"}[5');
    await page.getByRole('option', { name: /^5m / }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.type('m]');
    expect(await box().inputValue()).toBe('rate(http_requests_total{cpu="a\\"b"}[5m])');
    await page.keyboard.press('Control+z');
    expect(await box().inputValue()).not.toBe('rate(http_requests_total{cpu="a\\"b"}[5m])');
  });

  test('remembers queries', async () => {
    await open('/?q=one');
    await summary(/1 series/);
    await open();
    await box().focus();
    await page.keyboard.press('ArrowDown');
    await page.getByRole('option', { name: 'one' }).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await summary(/1 series/);
    expect(await box().inputValue()).toBe('one');
  });

  test('the table has a column for each label that differs, exact values, and sorts', async () => {
    await open('/?q=cpu_seconds_total&tab=table');
    await summary(/4 series/);
    const cells = () => page.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.textContent));
    expect(await page.getByRole('columnheader').allTextContents()).toEqual(['cpu', 'value']);
    expect(await cells()).toEqual(['050', '184.65883939231585', '2NaN', '358.64480032239469']);
    await page.getByRole('button', { name: 'value' }).click();
    expect((await cells()).map((text) => text?.[0])).toEqual(['1', '3', '0', '2']);
    expect(await page.getByRole('columnheader', { name: 'value' }).getAttribute('aria-sort')).toBe('descending');
    await page.getByRole('button', { name: 'value' }).click();
    expect((await cells()).map((text) => text?.[0])).toEqual(['0', '3', '1', '2']);
    await page.getByRole('button', { name: 'value' }).click();
    expect((await cells()).map((text) => text?.[0])).toEqual(['0', '1', '2', '3']);
  });

  test('the table shows scalars and the samples of a range', async () => {
    await open('/?q=scalar(1)&tab=table');
    await summary(/scalar/);
    expect(await page.locator('.single').textContent()).toBe('1');
    await open('/?q=cpu_seconds_total%5B1m%5D&tab=table');
    await summary(/1 series/);
    expect(await page.locator('.samples li').count()).toBe(3);
  });

  test('of a thousand series a hundred are drawn, and it says so; all on request', async () => {
    await open('/?q=many');
    await summary(/1,000 series.*361,000 points/);
    await said('Drawn: the 100 series with the highest peaks, of 1,000.');
    expect(await legend().count()).toBe(100);
    await page.getByRole('button', { name: 'Draw all 1,000' }).click();
    await legend().nth(999).waitFor();
    expect(await page.locator('.limits').textContent()).toBe('');
    await page.getByRole('tab', { name: 'Table' }).click();
    await said('Shown: 500 rows of 1,000.');
    expect(await page.locator('tbody tr').count()).toBe(500);
    await page.getByRole('button', { name: 'Show all 1,000' }).click();
    expect(await page.locator('tbody tr').count()).toBe(1000);
  });

  test('the pointer reads values; a marked stretch of time is the next range', async () => {
    await open('/?q=one');
    await summary(/1 series/);
    const plot = page.locator('.u-over');
    const { x, y, width, height } = (await plot.boundingBox()) as {
      x: number;
      y: number;
      width: number;
      height: number;
    };
    await page.mouse.move(x + width / 2, y + height / 2);
    await page
      .locator('.tip')
      .filter({ hasText: /\d{4}-\d\d-\d\d \d\d:\d\d:\d0/ })
      .waitFor();
    const shown = await page.locator('.tip b').textContent();
    expect(Number(shown)).toBeCloseTo(Number(await legend().locator('output').textContent()), 1);
    await page.mouse.down();
    await page.mouse.move(x + width * 0.75, y + height / 2, { steps: 4 });
    await page.mouse.up();
    await summary(/step (2s|5s)/);
    const asked = lastAsked('query_range');
    expect(Number(asked?.get('end')) - Number(asked?.get('start'))).toBeGreaterThan(880);
    expect(Number(asked?.get('end')) - Number(asked?.get('start'))).toBeLessThan(920);
    expect(await page.getByLabel('Until').inputValue()).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    await page.getByRole('button', { name: 'Now' }).click();
    await page.waitForURL((url) => !url.searchParams.has('until'));
  });

  test('a series is singled out from the legend', async () => {
    await open('/?q=cpu_seconds_total');
    await summary(/4 series/);
    await legend().nth(1).click();
    expect(await legend().nth(1).getAttribute('aria-pressed')).toBe('true');
    expect(await page.locator('.legend .off').count()).toBe(3);
    await legend()
      .nth(2)
      .click({ modifiers: ['Control'] });
    expect(await page.locator('.legend .off').count()).toBe(2);
    await legend()
      .nth(2)
      .click({ modifiers: ['Control'] });
    await legend().nth(1).click();
    expect(await page.locator('.legend .off').count()).toBe(0);
  });

  test('an error is shown in the words of the server, and the next query clears it', async () => {
    await open('/?q=broken(');
    const alert = page.locator('.notice.error');
    await alert.waitFor();
    expect(await alert.textContent()).toContain('1:8: parse error: unclosed left parenthesis');
    expect(await page.locator('.q-wrong').count()).toBeGreaterThan(0);
    await box().fill('one');
    await page.keyboard.press('Enter');
    await summary(/1 series/);
    expect(await alert.count()).toBe(0);
    // The browser writes refusals to the console by itself.
    expect(complaints.splice(0)).toEqual([expect.stringContaining('400')]);
  });

  test('what is missing is said exactly, once; warnings and notes beside it', async () => {
    await open('/?q=partial');
    await summary(/2 of 6 shards missing/);
    expect(await page.locator('.notice.missing').textContent()).toMatch(
      /shards 3\u20134 missing, .* to .*: node-2 does not answer/,
    );
    expect(await page.locator('.notice.warning').allTextContents()).toEqual(['Warningthis may not be a counter']);
    expect(await page.locator('.notice.info').textContent()).toContain('metric might not be a counter');
    expect(await legend().count()).toBe(2);
  });

  test('label values are text, whatever they hold', async () => {
    for (const tab of ['graph', 'table']) {
      await open(`/?q=hostile&tab=${tab}`);
      await summary(/2 series/);
      await said('<img src=x onerror=document.title=');
      expect(await page.locator('#result img').count()).toBe(0);
    }
    expect(await page.title()).toContain('hostile');
  });

  test('gaps stay gaps, single points are dots, what is no number is left out', async () => {
    await open('/?q=gaps');
    await summary(/1 series.*7 points/);
    expect(await legend().locator('output').textContent()).toBe('20');
  });

  test('refreshes by the clock, keeps what was picked, and stops', async () => {
    await open('/?q=cpu_seconds_total&refresh=5s');
    await summary(/4 series/);
    await legend().nth(1).click();
    const before = count('query_range');
    await page.waitForRequest(/query_range/, { timeout: 9000 });
    await summary(/4 series/);
    expect(count('query_range')).toBeGreaterThan(before);
    expect(await page.locator('.legend .off').count()).toBe(3);
    await page.getByLabel('Refresh').selectOption('off');
    await page.waitForURL((url) => !url.searchParams.has('refresh'));
  });

  test('a running query can be cancelled', async () => {
    let answer = (): void => undefined;
    server.until = new Promise((resolve) => {
      answer = resolve;
    });
    await open('/?q=one');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await summary(/Cancelled/);
    await page.getByRole('button', { name: 'Run' }).waitFor();
    answer();
  });

  test('a wrong range, step or time is refused with an example; the last answer stays', async () => {
    await open('/?q=one');
    await summary(/1 series/);
    for (const [name, text, reason] of [
      ['Range', 'an hour', /range "an hour" is no duration: write 90s/],
      ['Step', '-1', /step "-1" is no duration/],
      ['Until', 'yesterday', /until "yesterday" is no time: write 2026/],
    ] as const) {
      const input = page.getByLabel(name, { exact: true }).and(page.locator('input'));
      await input.fill(text);
      await input.press('Tab');
      await page.getByRole('alert').filter({ hasText: reason }).waitFor();
      expect(await input.getAttribute('aria-invalid')).toBe('true');
    }
    await page.getByLabel('Step').fill('1m');
    await page.getByLabel('Step').press('Enter');
    await summary(/61 points.*step 1m/);
    expect(await page.locator('#problem').textContent()).toBe('');
  });

  test('an empty store says how to fill it, and notices when it is filled', async () => {
    server.metrics = [];
    await open();
    await said('The store is empty');
    await said(`- url: ${server.url}/api/v1/write`);
    server.metrics = ['up'];
    await said('1 metric in the store.');
  });

  test('examples are of metrics that are there', async () => {
    server.metrics = ['host_cpu_core_used_ratio', 'host_memory_used_bytes', 'up'];
    await open();
    await page.getByRole('button', { name: 'CPU used, by core' }).waitFor();
    expect(await page.locator('.example').count()).toBe(2);
    await page.getByRole('button', { name: 'CPU used, by core' }).click();
    await summary(/0 series/);
    expect(lastAsked('query_range')?.get('query')).toBe('host_cpu_core_used_ratio');
  });

  test('where nothing matched it says why, and what may have been meant', async () => {
    await open('/?q=sum(cpu_second)');
    await said('There is no metric');
    await page.getByRole('button', { name: 'cpu_seconds_total' }).click();
    await summary(/4 series/);
  });

  test('says whether the cluster is ready, and its nodes up', async () => {
    const cluster = page.locator('#cluster');
    await open();
    await cluster.filter({ hasText: 'ready, 2 nodes' }).waitFor();
    server.nodes = { all: 2, up: 1 };
    await cluster.filter({ hasText: 'ready, 1 of 2 nodes up' }).waitFor();
    server.unready = 'node-2 replays its log';
    await cluster.filter({ hasText: 'not ready: node-2 replays its log' }).waitFor();
    expect(complaints.splice(0).every((text) => text.includes('503'))).toBe(true);
  });

  test('dark when the system is, light when it is', async () => {
    const paper = () => page.evaluate('getComputedStyle(document.body).backgroundColor');
    await page.emulateMedia({ colorScheme: 'light' });
    await open('/?q=one');
    expect(await paper()).toBe('rgb(255, 255, 255)');
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await paper()).toBe('rgb(20, 24, 27)');
  });

  test('fits a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    for (const path of ['/', '/?q=cpu_seconds_total', '/?q=many&tab=table', '/?q=partial', '/?q=hostile']) {
      await open(path);
      await page.locator('#result > *').first().waitFor();
      expect(await page.evaluate('document.documentElement.scrollWidth'), path).toBeLessThanOrEqual(360);
    }
  });

  test('everything is reached by the keyboard', async () => {
    await open('/?q=cpu_seconds_total');
    await summary(/4 series/);
    await page.locator('body').press('/');
    expect(await box().evaluate((node) => node.matches(':focus'))).toBe(true);
    const reached: string[] = [];
    for (let i = 0; i < 24; i++) {
      await page.keyboard.press('Tab');
      reached.push(String(await page.evaluate('document.activeElement.id || document.activeElement.textContent')));
    }
    expect(reached).toEqual(
      expect.arrayContaining(['recent', 'run', 'tab-graph', '5m', 'range', 'end', 'back', 'step', 'refresh']),
    );
    expect(reached.some((text) => text.includes('cpu="3"'))).toBe(true);
    await page.locator('#tab-graph').focus();
    await page.keyboard.press('ArrowRight');
    await page.getByRole('table').waitFor();
    expect(await page.locator('#tab-table').evaluate((node) => node.matches(':focus'))).toBe(true);
  });
});
