import type { Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import { startBalancer } from '../helpers/balancer.ts'
import { contextForPages } from '../helpers/browser.ts'
import { startBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { readPage } from '../helpers/markdown.ts'
import { startRedis } from '../helpers/redis.ts'

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): Iterable<{ textContent: string }> }

const [plainPage, sdkPage] = readPage('docs/getting-started.md').blocks.filter(({ language }) => language === 'html').map(({ code }) => code)

const context = await contextForPages(t)

/** A window on a network of its own, which reaches one instance and then another. */
async function open (t: Test, port: number) {
  const network = await startBalancer(t, [`ws://127.0.0.1:${port}`])
  const page = await context.newPage()
  await page.goto(network.url.replace('ws', 'http'))
  return { page, network }
}

async function write (page: Page, text: string): Promise<void> {
  await page.waitForFunction(() => [...document.querySelectorAll('#state')][0]?.textContent === 'Connected')
  await page.fill('input', text)
  await page.press('input', 'Enter')
}

/** Waits until the page shows exactly these messages, in this order. */
async function shows (page: Page, texts: string[]): Promise<void> {
  await page.waitForFunction((texts: string[]) => {
    const shown = [...document.querySelectorAll('li')].map(({ textContent }) => textContent)
    return shown.length === texts.length && texts.every((text, i) => shown[i]!.endsWith(` ${text}`))
  }, texts)
}

/** Step 4: both windows show what each writes, also the one that was cut off and comes back on the other instance. */
async function talk (t: Test, [first, second]: [number, number]): Promise<void> {
  const [one, two] = await Promise.all([open(t, first), open(t, second)])
  await write(one.page, 'from one')
  await Promise.all([one, two].map(({ page }) => shows(page, ['from one'])))
  one.network.targets = []
  one.network.cut()
  await one.page.waitForFunction(() => [...document.querySelectorAll('#state')][0]?.textContent !== 'Connected')
  await write(two.page, 'meanwhile')
  await shows(two.page, ['from one', 'meanwhile'])
  one.network.targets = two.network.targets
  await shows(one.page, ['from one', 'meanwhile'])
  await write(one.page, 'back again')
  await Promise.all([one, two].map(({ page }) => shows(page, ['from one', 'meanwhile', 'back again'])))
}

t.test('the plain server and its page, on two instances', async (t) => {
  setEnvironment(t, { REDIS_URL: (await startRedis(t)).url })
  const first = await startBlock(t, 'docs/getting-started.md', 'plain-server', { 'index.html': plainPage! })
  await t.test('the second instance', async (t) => {
    await talk(t, [first, await startBlock(t, 'docs/getting-started.md', 'plain-server', { 'index.html': plainPage! })])
  })
})

t.test('the SDK server and its page, on two instances', async (t) => {
  setEnvironment(t, { REDIS_URL: (await startRedis(t)).url })
  const first = await startBlock(t, 'docs/getting-started.md', 'sdk-server', { 'index.html': sdkPage! })
  await t.test('the second instance', async (t) => {
    await talk(t, [first, await startBlock(t, 'docs/getting-started.md', 'sdk-server', { 'index.html': sdkPage! })])
  })
})
