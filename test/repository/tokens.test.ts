import t from 'tap'
import type { Page } from 'playwright-core'
import type { StreamPart } from '../../index.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { launchBrowser } from '../helpers/browser.ts'
import { buildChat, PATIENCE, startChat, waitFor } from '../helpers/chat.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { Texts } from '../helpers/text-client.ts'
import { until } from '../helpers/until.ts'

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): ArrayLike<{ textContent: string, dataset: { end?: string } }> }

t.setTimeout(600_000)

const folder = await buildChat(t)
const redis = await startRedis(t)
/** The whole answer, by the example's own stand-in for a model. */
const { model } = await import(new URL('../../example/tokens/model.mjs', import.meta.url).href)
async function answerTo (question: string): Promise<string> {
  let text = ''
  for await (const token of model(question, '')) text += token
  return text
}

/** Real processes on one Redis. */
async function startTokens (pace: number, count: number) {
  const settings = { REDIS_URL: redis.url, TOKEN_PACE: String(pace) }
  return Promise.all(Array.from({ length: count }, () => startChat(t, folder, settings, 'tokens')))
}

/** The texts in a talk, at a client of this instance. */
function textsAt (url: string, channel: string) {
  const client = sdkClient(t, url, 'json', { maxReconnectDelay: 200 })
  const texts = new Texts()
  const subscription = client.subscribe(channel)
  subscription.sub.on('publication', ({ data }) => texts.take(data as StreamPart))
  return { client, texts, subscription }
}

const QUESTION = 'What is a token?'
const expected = answerTo(QUESTION)

t.test("the subscribers' instance is replaced in mid-answer: the text at every client is exactly the text", async (t) => {
  const [writing, leaving, staying] = await startTokens(10, 3)
  const balancer = await startBalancer(t, [leaving!.socketUrl])
  const clients = [textsAt(balancer.url, 'talk:one'), textsAt(balancer.url, 'talk:one'), textsAt(writing!.socketUrl, 'talk:one')]
  await Promise.all(clients.map(({ subscription }) => subscription.subscribed()))
  const { id } = await clients[2]!.client.rpc('talk.ask', { channel: 'talk:one', question: QUESTION }) as { id: string }
  await until(() => clients.every(({ texts }) => texts.text(`a-${id}`).length > 100), 'all have some of it', PATIENCE)
  balancer.targets.splice(0, 1, staying!.socketUrl)
  t.equal(await leaving!.stop(), 0)
  await until(() => clients.every(({ texts }) => texts.end(`a-${id}`) === 'done'), 'all know the end', PATIENCE)
  for (const { texts } of clients) {
    t.equal(texts.text(`a-${id}`), await expected)
    t.equal(texts.text(`q-${id}`), QUESTION)
  }
})

for (const how of ['stop', 'kill'] as const) {
  t.test(`the instance that writes ends by ${how} in mid-answer: another one goes on, and nobody notices`, async (t) => {
    const [writing, staying] = await startTokens(40, 2)
    const channel = `talk:${how}`
    const clients = [textsAt(staying!.socketUrl, channel), textsAt(staying!.socketUrl, channel)]
    const asking = textsAt(writing!.socketUrl, channel)
    await Promise.all([...clients, asking].map(({ subscription }) => subscription.subscribed()))
    const { id } = await asking.client.rpc('talk.ask', { channel, question: QUESTION }) as { id: string }
    await until(() => clients.every(({ texts }) => texts.text(`a-${id}`).length > 100), 'all have some of it', PATIENCE)
    await writing![how]()
    if (how === 'stop') await until(() => clients.every(({ texts }) => texts.end(`a-${id}`) === 'interrupted'), 'all know that it was interrupted', PATIENCE)
    // Each page asks for it. One call has the stream.
    await Promise.all(clients.map(({ client }) => client.rpc('talk.resume', { channel, id })))
    await until(() => clients.every(({ texts }) => texts.end(`a-${id}`) === 'done'), 'all know the end', 120_000)
    for (const { texts } of clients) t.equal(texts.text(`a-${id}`), await expected)
    t.not(clients[0]!.texts.parts.filter(({ end }) => end === 'done').length, 0)
  })
}

t.test('two tabs in a real browser', async (t) => {
  const [one, two] = await startTokens(15, 2)
  const browser = await launchBrowser(t)
  const open = async (url: string, colorScheme: 'light' | 'dark', viewport: { width: number, height: number }) => {
    const context = await browser.newContext({ reducedMotion: 'reduce', colorScheme, viewport })
    const page = await context.newPage()
    page.on('pageerror', error => t.fail('error on the page', { found: error.stack }))
    page.on('console', message => { if (/Content Security Policy/.test(message.text())) t.fail(message.text()) })
    await page.goto(`${url}/#browser`)
    return page
  }
  const textOf = (page: Page, n: number) => page.locator('.answer .text').nth(n).textContent()
  const ended = (page: Page, n: number, end: string) => waitFor(page, ({ n, end }) => {
    return document.querySelectorAll('.answer')[n]?.dataset.end === end
  }, { n, end }, async () => `no ${end} at answer ${n}`)
  const wide = await open(one!.url, 'light', { width: 1_100, height: 800 })
  await wide.getByText('Connected', { exact: true }).waitFor({ timeout: PATIENCE })

  await t.test('the second tab, on a phone and another instance, gets the text so far, and both get the rest', async (t) => {
    await wide.getByLabel('Question').fill(QUESTION)
    await wide.getByLabel('Question').press('Enter')
    await wide.getByRole('button', { name: 'Stop' }).waitFor({ timeout: PATIENCE })
    const phone = await open(two!.url, 'dark', { width: 360, height: 640 })
    await phone.locator('.answer').waitFor({ timeout: PATIENCE })
    await Promise.all([ended(wide, 0, 'done'), ended(phone, 0, 'done')])
    t.equal(await textOf(wide, 0), await expected)
    t.equal(await textOf(phone, 0), await expected)
    t.strictSame(await phone.locator('.question').allTextContents(), [QUESTION])
    t.equal(await phone.getByRole('button', { name: 'Stop' }).isVisible(), false)
    t.equal(await phone.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, 'nothing is wider than the phone')
    const [light, dark] = await Promise.all([wide, phone].map(page => page.evaluate('getComputedStyle(document.body).backgroundColor')))
    t.not(light, dark)

    await phone.getByLabel('Question').fill('Another one?')
    await phone.getByRole('button', { name: 'Ask' }).click()
    await wide.locator('.answer').nth(1).waitFor({ timeout: PATIENCE })
    await wide.getByRole('button', { name: 'Stop' }).click()
    await Promise.all([ended(wide, 1, 'stopped'), ended(phone, 1, 'stopped')])
    t.equal(await textOf(wide, 1), await textOf(phone, 1))
    t.ok((await textOf(wide, 1))!.length < (await expected).length)
    t.equal(await wide.getByText('Stopped', { exact: true }).isVisible(), true)
  })

  await t.test('the instance that writes is stopped: the page on the other one has it resumed', async (t) => {
    const other = await open(two!.url, 'light', { width: 1_100, height: 800 })
    await other.locator('.answer').nth(1).waitFor({ timeout: PATIENCE })
    await wide.getByLabel('Question').fill(QUESTION)
    await wide.getByLabel('Question').press('Enter')
    await waitFor(other, () => (document.querySelectorAll('.answer .text')[2]?.textContent.length ?? 0) > 50, undefined, async () => 'no third answer')
    await one!.kill()
    await ended(other, 2, 'done')
    t.equal(await textOf(other, 2), await expected)
  })

  await t.test('what the server refuses is shown', async () => {
    const other = await open(two!.url, 'light', { width: 1_100, height: 800 })
    await other.goto('about:blank') // with the page open, another hash makes it reload itself
    await other.goto(`${two!.url}/#not%20a%20name`)
    await other.getByText('Connected', { exact: true }).waitFor({ timeout: PATIENCE })
    await other.getByLabel('Question').fill('Hello?')
    await other.getByRole('button', { name: 'Ask' }).click()
    await other.getByRole('alert').getByText('channel must be').waitFor({ timeout: PATIENCE })
  })
})
