import Fastify from 'fastify'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { launchBrowser } from '../helpers/browser.ts'
import { buildChat, enter, hasPeople, hasTexts, isSent, openPage, shows, startChat, waitFor, write } from '../helpers/chat.ts'
import { root } from '../helpers/markdown.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { WebProxy } from '../helpers/web-proxy.ts'
import type { WebProxyHabits } from '../helpers/web-proxy.ts'

t.setTimeout(300_000)
const [folder, browser, redis] = await Promise.all([buildChat(t), launchBrowser(t), startRedis(t)])

/** Instances of the chat, and a proxy in front of them. */
async function startBehind (t: Test, habits: WebProxyHabits) {
  const settings = { REDIS_URL: redis.url, TOKEN_SECRET: secretOf('of the tests') }
  const instances = await Promise.all([startChat(t, folder, settings), startChat(t, folder, settings)])
  return { instances, proxy: await WebProxy.start(t, instances.map(({ port }) => port), habits) }
}

const proxies: Array<[habit: string, habits: WebProxyHabits, state: string]> = [
  ['refuses upgrades', { upgrades: 'refuse' }, 'Connected by HTTP streaming'],
  ['closes upgrades, and buffers as nginx does', { upgrades: 'close', buffers: 'nginx' }, 'Connected by HTTP streaming'],
  ['takes the upgrade out of requests, buffers in blocks, and forbids HTTP streaming', { upgrades: 'strip', buffers: 'blocks', forbidden: /http_stream/ }, 'Connected by server-sent events']
]

for (const [habit, habits, state] of proxies) {
  t.test(`the chat goes on behind a proxy that ${habit}, also while an instance is replaced`, async (t) => {
    const room = randomPrefix()
    const { instances: [one, two], proxy } = await startBehind(t, habits)
    // People are told apart by what the browser stores.
    const [ada, grace] = await Promise.all(['Ada', 'Grace'].map(async (name) => {
      const context = await browser.newContext({ reducedMotion: 'reduce' })
      t.teardown(() => context.close())
      const page = await openPage(t, context, proxy, room)
      await enter(page, name)
      return page
    })) as [Page, Page]
    for (const page of [ada, grace]) {
      await hasTexts(page, '#state .text', [state])
      t.match(await page.locator('#about .text').textContent(), state)
    }
    await hasPeople(ada, ['Ada', 'Grace'])
    await write(ada, 'hello')
    await write(grace, 'hello Ada')
    await Promise.all([ada, grace].map(page => shows(page, ['hello', 'hello Ada'])))

    proxy.targets = [two!.port]
    const stopped = one!.stop()
    for (let i = 1; i <= 5; i++) await write(ada, `while one is replaced ${i}`)
    t.equal(await stopped, 0)
    await write(grace, 'after it')
    await Promise.all([ada, grace].map(isSent))
    const said = ['hello', 'hello Ada', ...Array.from({ length: 5 }, (_, i) => `while one is replaced ${i + 1}`)]
    for (const page of [ada, grace]) {
      await waitFor(page, count => document.querySelectorAll('#log ol:not([hidden]) .text').length === count, said.length + 1, async () => 'not all shown')
      const texts = await page.locator('#log ol:not([hidden]) .text').allTextContents()
      t.strictSame(texts.toSorted(), [...said, 'after it'].toSorted(), 'each message once')
      t.strictSame(texts.filter(text => text !== 'after it'), said, 'in order')
      t.equal(await page.locator('.note').count(), 0, 'nothing is missing')
    }
  })
}

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): ArrayLike<unknown> }
declare const connectSdk: (transport: string, url: string) => void
declare const seen: number[]
declare const states: string[]

/** A page with the SDK alone, which counts what comes. */
const PAGE = `<!doctype html><script src="/centrifuge.js"></script><script>
  const seen = []
  const states = []
  function connectSdk (transport, url) {
    const endpoint = url + '/connection/' + transport
    const centrifuge = new Centrifuge([{ transport, endpoint: transport === 'websocket' ? endpoint.replace('http', 'ws') : endpoint }], {
      emulationEndpoint: url + '/emulation', minReconnectDelay: 20, maxReconnectDelay: 100
    })
    const room = centrifuge.newSubscription('room')
    room.on('subscribed', ({ wasRecovering, recovered }) => states.push(wasRecovering ? recovered ? 'recovered' : 'lost' : 'new'))
    room.on('publication', ({ data }) => seen.push(data))
    room.subscribe()
    centrifuge.on('connected', async () => states.push(JSON.stringify((await centrifuge.rpc('echo', { n: 1 })).data)))
    centrifuge.connect()
  }
</script>`

async function startPageApp (t: Test, options: Options = {}) {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  const sdk = readFileSync(join(root, 'node_modules/centrifuge/dist/centrifuge.js'))
  app.get('/', (_request, reply) => reply.type('text/html').send(PAGE))
  app.get('/centrifuge.js', (_request, reply) => reply.type('text/javascript').send(sdk))
  await app.register(cloudRunWebSocket, {
    redis: false,
    fallback: true,
    shutdown: { signals: false },
    channels: { '': { subscribe: true, history: { size: 1_000, ttl: '1m' } } },
    methods: { echo: { handler: (_connection, data) => data } },
    ...options
  })
  await app.listen({ port: 0 })
  const { port } = app.server.address() as AddressInfo
  return { app, port, url: `http://localhost:${port}` }
}

async function openPages (t: Test, url: string, service: string, transports: readonly string[]): Promise<Page[]> {
  return Promise.all(transports.map(async transport => {
    const page = await browser.newPage()
    t.teardown(() => page.close())
    page.on('pageerror', error => t.fail('error on the page', { found: error.stack }))
    await page.goto(url)
    await page.evaluate(([transport, service]) => connectSdk(transport!, service!), [transport, service])
    await page.waitForFunction(() => states.length >= 2)
    return page
  }))
}

const numbers = (page: Page) => page.evaluate(() => seen)

t.test('a page connects to a service on another origin by each transport', async (t) => {
  const site = await startPageApp(t)
  const service = await startPageApp(t, { allowedOrigins: [site.url] })
  const pages = await openPages(t, site.url, service.url, ['websocket', 'http_stream', 'sse'])
  t.strictSame(Array.from(service.app.realtime.connections, ({ transport }) => transport).toSorted(), ['http_stream', 'sse', 'websocket'])
  await service.app.realtime.publish('room', 1)
  for (const page of pages) {
    await page.waitForFunction(() => seen.length === 1)
    t.strictSame((await page.evaluate(() => states)).toSorted(), ['new', '{"n":1}'])
  }
  const elsewhere = await startPageApp(t)
  const page = await browser.newPage()
  t.teardown(() => page.close())
  await page.goto(elsewhere.url)
  const refused = page.waitForRequest(request => request.url().includes('http_stream'))
  await page.evaluate(([transport, service]) => connectSdk(transport!, service!), ['http_stream', service.url])
  const failed = await (await refused).response().catch(() => undefined)
  t.not(failed?.status(), 200, 'a page of a third origin is kept out')
  t.equal(Array.from(service.app.realtime.connections).length, 3)
})

t.test('heartbeats keep responses that a proxy cuts when nothing comes', async (t) => {
  // The usual heartbeat of 25 s, and a proxy that cuts after 30 s, both a hundred times faster.
  const service = await startPageApp(t, { heartbeat: { interval: 1_000, timeout: 900 } })
  const proxy = await WebProxy.start(t, [service.port], { upgrades: 'refuse', maxIdle: 2_000 })
  const pages = await openPages(t, proxy.url, proxy.url, ['http_stream', 'sse'])
  const quiet = Date.now() + 6_000
  await until(() => Date.now() > quiet, 'nothing was said for three times as long as the proxy waits', 10_000)
  await service.app.realtime.publish('room', 1)
  for (const page of pages) {
    await page.waitForFunction(() => seen.length === 1)
    t.equal(await page.evaluate(() => states.length), 2, 'it was not cut')
  }
  t.equal(proxy.cut, 0)
})

t.test('nothing is lost and nothing comes twice where a proxy cuts every response after a second', async (t) => {
  const service = await startPageApp(t)
  const proxy = await WebProxy.start(t, [service.port], { upgrades: 'refuse', maxAge: 1_000 })
  const pages = await openPages(t, proxy.url, proxy.url, ['http_stream', 'sse'])
  let published = 0
  await until(async () => {
    await service.app.realtime.publish('room', ++published)
    return proxy.cut >= 10
  }, 'the responses were cut ten times', 60_000)
  const all = Array.from({ length: published }, (_, i) => i + 1)
  for (const page of pages) {
    await page.waitForFunction(count => seen.length >= count, published)
    t.strictSame(await numbers(page), all)
    t.notOk((await page.evaluate(() => states)).includes('lost'))
  }
})
