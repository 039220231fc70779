/** The web page of a real cluster in a real Chromium, showing what the cluster wrote about itself and its host. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, eventually, query, Sandbox } from '../local/cluster.ts';
import { type Browser, CHROMIUM, startBrowser } from '../web/chromium.ts';

describe.runIf(CHROMIUM !== undefined)("a real cluster's page", () => {
  const sandbox = new Sandbox();
  let cluster: Cluster;
  let browser: Browser;

  beforeAll(async () => {
    cluster = await sandbox.cluster(await sandbox.directory());
    browser = await startBrowser(CHROMIUM as string);
  });
  afterAll(async () => {
    await browser?.close();
    await sandbox.close();
  });

  test('every example that it offers has an answer, complete and without a complaint', async () => {
    // Rates need two samples.
    await eventually(async () => {
      const rates = await query(cluster.url, 'rate(silverback_node_write_samples_total[1m])');
      expect(rates.length).toBeGreaterThan(0);
    });
    const page = await browser.context.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    await page.goto(cluster.url);
    await page.locator('#cluster').filter({ hasText: 'ready, 4 nodes' }).waitFor();
    const examples = page.locator('.example');
    await examples.nth(7).waitFor();
    const titles = await examples.locator('span').allTextContents();
    for (const part of ['CPU', 'Memory', 'Disk', 'Network', 'Samples']) {
      expect(
        titles.some((title) => title.startsWith(part)),
        part,
      ).toBe(true);
    }
    for (const [index, title] of titles.entries()) {
      await page.goto(cluster.url);
      await examples.nth(index).click();
      const summary = page.locator('#summary').filter({ hasText: /series.*(complete|missing)/ });
      await summary.waitFor();
      expect(await summary.textContent(), title).toMatch(/^[1-9].* series.* complete$/);
      expect(await page.locator('.notice').allTextContents(), title).toEqual([]);
    }
    expect(complaints).toEqual([]);
    await page.close();
  });
});
