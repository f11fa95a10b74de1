import Fastify from 'fastify'
import { readFileSync } from 'node:fs'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { launchBrowser } from '../helpers/browser.ts'
import {
  buildChat, enter, hasCount, hasPeople, hasTexts, isSent, MESSAGES, openPage, shows, startChat, textsOf, write
} from '../helpers/chat.ts'
import { readPage, root } from '../helpers/markdown.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { WebProxy } from '../helpers/web-proxy.ts'
import type { WebProxyHabits } from '../helpers/web-proxy.ts'

t.setTimeout(300_000)
const [folder, browser, redis] = await Promise.all([buildChat(t), launchBrowser(t), startRedis(t)])

/** The heartbeat of 25 s, five times faster: many proxies cut what is silent for 30 s. */
const HEARTBEAT = 'heartbeat: { interval: 5_000, timeout: 1_500 },'
const MAX_IDLE = 6_000
await addQuickChat()

/** `chat-quick` beside the chat: the same one, but for its heartbeat. */
async function addQuickChat () {
  const [chat, quick] = ['chat', 'chat-quick'].map(name => join(folder, 'example', name)) as [string, string]
  await cp(chat, quick, { recursive: true })
  const server = await readFile(join(chat, 'server.mjs'), 'utf8')
  const start = 'register(cloudRunWebSocket, {'
  // No assertion before the first subtest: tap would take the file for done.
  if (!server.includes(start)) throw new Error(`the server of the chat has no ${start}`)
  await writeFile(join(quick, 'server.mjs'), server.replace(start, `${start} ${HEARTBEAT}`))
}

/** What people say while an instance is replaced. */
const WORDS = Array.from({ length: 5 }, (_, i) => `while it is replaced ${i}`)
const BOTH = ['Connected by HTTP streaming', 'Connected by server-sent events'] as const
const SSE = [BOTH[1], BOTH[1]] as const

/** What a proxy does, how Ada and Grace connect, and how many instances there are until one is replaced. */
const proxies: Array<[habit: string, habits: WebProxyHabits, states: readonly [string, string], instances: 1 | 2]> = [
  ['refuses upgrades', { upgrades: 'refuse' }, BOTH, 1],
  ['closes upgrades, and buffers as nginx does', { upgrades: 'close', buffers: 'nginx' }, BOTH, 2],
  ['takes the upgrade out of requests, buffers in blocks, and forbids HTTP streaming',
    { upgrades: 'strip', buffers: 'blocks', forbidden: /http_stream/ }, SSE, 2],
  ['cuts responses that are silent for longer than the heartbeat', { upgrades: 'refuse', maxIdle: MAX_IDLE }, BOTH, 2],
  ['cuts every response after a second', { upgrades: 'refuse', maxAge: 1_000 }, BOTH, 2]
]

for (const [habit, habits, states, instances] of proxies) {
  t.test(`the chat goes on behind a proxy that ${habit}, also while ${instances === 1 ? 'its instance' : 'one of two'} is replaced`, async (t) => {
    const room = randomPrefix()
    const settings = { REDIS_URL: redis.url, TOKEN_SECRET: secretOf('of the tests') }
    const example = habits.maxIdle === undefined ? 'chat' : 'chat-quick'
    const [one, two] = await Promise.all(Array.from({ length: 2 }, () => startChat(t, folder, settings, example)))
    const proxy = await WebProxy.start(t, [one!.port, two!.port].slice(0, instances), habits)
    const [ada, grace] = await Promise.all([openOwnPage(t, proxy, room, 'Ada'), openOwnPage(t, proxy, room, 'Grace', '**/http_stream')])
    const both = [ada, grace]
    await Promise.all(both.map((page, i) => hasTexts(page, '#state .text', [states[i]!])))
    await Promise.all(both.map((page, i) => hasTexts(page, '#about .text', [`${states[i]} to the instance`])))
    await Promise.all(both.map(page => hasPeople(page, ['Ada', 'Grace'])))
    await write(ada, 'hello')
    await shows(grace, ['hello'])
    await write(grace, 'hello Ada')
    const said = ['hello', 'hello Ada']
    await Promise.all(both.map(page => shows(page, said)))

    if (habits.maxIdle !== undefined) {
      for (const stream of proxy.streams) stream.pieces = 0
      const kept = () => proxy.streams.size === 2 && Array.from(proxy.streams).every(({ pieces }) => pieces >= 2)
      await until(kept, 'two heartbeats came on each stream', 60_000)
      t.equal(proxy.cut, 0)
    }

    if (habits.maxAge !== undefined) await until(() => proxy.cut >= 4, 'both were cut, and again', 60_000)

    proxy.targets = [two!.port]
    const stopped = one!.stop()
    const say = async (page: Page, name: string) => { for (const words of WORDS) await write(page, `${name} ${words}`) }
    await Promise.all([say(ada, 'Ada'), say(grace, 'Grace')])
    t.equal(await stopped, 0)
    await Promise.all(both.map(isSent))
    await Promise.all(both.map(page => hasCount(page, MESSAGES, said.length + 2 * WORDS.length)))
    const texts = await textsOf(ada)
    for (const name of ['Ada', 'Grace']) {
      t.strictSame(texts.filter(text => text.startsWith(`${name} `)), WORDS.map(words => `${name} ${words}`), 'each once and in order')
    }
    t.equal(texts.length, said.length + 2 * WORDS.length)
    await shows(grace, texts)
    for (const page of both) t.equal(await page.locator('.note').count(), 0, 'nothing is missing')
    await grace.reload()
    await shows(grace, texts)
    t.equal(proxy.cut > 0, habits.maxAge !== undefined, 'only what is old was cut')
  })
}

/** The chat of one person: people are told apart by what the browser stores. `without`: requests that fail there. */
async function openOwnPage (t: Test, proxy: WebProxy, room: string, name: string, without?: string): Promise<Page> {
  const context = await browser.newContext({ reducedMotion: 'reduce' })
  t.teardown(() => context.close())
  const page = await openPage(t, context, proxy, room, async page => {
    if (without !== undefined) await page.route(without, route => route.abort())
  })
  await enter(page, name)
  return page
}

/** For the functions that run inside the page. */
declare const connectSdk: (transports: readonly string[], url: string, timeout?: number) => void
declare const seen: number[]
declare const states: string[]
declare const failed: string[]
declare const client: { state: string }

/** A page with the SDK alone, which counts what comes. */
const PAGE = `<!doctype html><script src="/centrifuge.js"></script><script>
  const seen = []
  const states = []
  const failed = []
  function connectSdk (transports, url, timeout = 5000) {
    const list = transports.map(transport => {
      const endpoint = url + '/connection/' + transport
      return { transport, endpoint: transport === 'websocket' ? endpoint.replace('http', 'ws') : endpoint }
    })
    const centrifuge = new Centrifuge(list, {
      emulationEndpoint: url + '/emulation', minReconnectDelay: 20, maxReconnectDelay: 100, timeout
    })
    centrifuge.on('error', ({ type, error: { code } }) => failed.push(type + ' ' + code))
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
  const preflights = new Set<string>()
  app.addHook('onRequest', async ({ method, url }) => { if (method === 'OPTIONS') preflights.add(url) })
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
  return { app, port, preflights, url: `http://localhost:${port}` }
}

async function openPages (t: Test, url: string, service: string, transports: readonly string[]): Promise<Page[]> {
  return Promise.all(transports.map(async transport => {
    const page = await browser.newPage()
    t.teardown(() => page.close())
    page.on('pageerror', error => t.fail('error on the page', { found: error.stack }))
    await page.goto(url)
    await page.evaluate(([transport, service]) => connectSdk([transport!], service!), [transport, service])
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
  t.strictSame(Array.from(service.preflights).toSorted(), ['/connection/http_stream', '/emulation'], 'the browser has asked first')

  const elsewhere = await startPageApp(t)
  const page = await browser.newPage()
  t.teardown(() => page.close())
  await page.goto(elsewhere.url)
  const refused = page.waitForRequest(request => request.url().includes('http_stream'))
  await page.evaluate(([transport, service]) => connectSdk([transport!], service!), ['http_stream', service.url])
  const failed = await (await refused).response().catch(() => undefined)
  t.not(failed?.status(), 200, 'a page of a third origin is kept out')
  t.equal(Array.from(service.app.realtime.connections).length, 3)
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

const ALL = ['websocket', 'http_stream', 'sse']

t.test('a proxy that holds every response until its end lets only WebSockets through, and the SDK goes round until one is', async (t) => {
  const service = await startPageApp(t)
  const proxy = await WebProxy.start(t, [service.port], { upgrades: 'refuse', buffers: 'whole' })
  const page = await openAnyPage(t, proxy)
  await page.waitForFunction(() => failed.length >= 5)
  const tried = proxy.paths.filter(path => path.startsWith('/connection/')).slice(0, 5)
  t.strictSame(tried, ['websocket', 'http_stream', 'sse', 'websocket', 'http_stream'].map(transport => `/connection/${transport}`))
  t.strictSame(await page.evaluate(() => states), [])
  proxy.habits = { upgrades: 'pass', buffers: 'whole' }
  await page.waitForFunction(() => states.length >= 2)
  await until(() => Array.from(service.app.realtime.connections).length === 1, 'the streams that nobody read have ended')
  t.strictSame(Array.from(service.app.realtime.connections, ({ transport }) => transport), ['websocket'])
})

t.test('the SDK stays with a WebSocket that opens and then is silent, but a page can take another transport', async (t) => {
  const service = await startPageApp(t)
  const proxy = await WebProxy.start(t, [service.port], { upgrades: 'mute' })
  const page = await openAnyPage(t, proxy)
  await page.waitForFunction(() => failed.length >= 4)
  t.strictSame(new Set(await page.evaluate(() => failed)), new Set(['connect 1']))
  t.strictSame(new Set(proxy.paths.filter(path => path.startsWith('/connection/'))), new Set(['/connection/websocket']))

  // As docs/fallback.md has it, with less patience.
  const { code } = readPage('docs/fallback.md').blocks.find(({ code }) => code.includes('unanswered'))!
  const other = await browser.newPage()
  t.teardown(() => other.close())
  await other.goto(proxy.url)
  await other.addScriptTag({
    content: `const url = location.origin
      const Centrifuge = class extends globalThis.Centrifuge {
        constructor (list, options) { super(list, { ...options, timeout: 300, minReconnectDelay: 20, maxReconnectDelay: 100 }) }
      }
      const transports = [
        { transport: 'websocket', endpoint: url.replace('http', 'ws') + '/connection/websocket' },
        { transport: 'http_stream', endpoint: url + '/connection/http_stream' }
      ]
      ${code}`
  })
  await other.waitForFunction(() => client.state === 'connected')
  t.ok(Array.from(service.app.realtime.connections).some(({ transport }) => transport === 'http_stream'))
})

/** A page whose SDK may take any transport, and gives up on each after a moment. */
async function openAnyPage (t: Test, proxy: WebProxy): Promise<Page> {
  const page = await browser.newPage()
  t.teardown(() => page.close())
  await page.goto(proxy.url)
  await page.evaluate(([transports, url]) => connectSdk(transports, url, 300), [ALL, proxy.url] as const)
  return page
}
