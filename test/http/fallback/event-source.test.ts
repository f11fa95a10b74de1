import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { launchBrowser } from '../../helpers/browser.ts'
import { events } from '../../helpers/event-source.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { findProgram } from '../../helpers/programs.js'
import { startRedis } from '../../helpers/redis.ts'
import { httpOf } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

const channels: Options['channels'] = { '': { subscribe: true, history: { size: 10_000, ttl: '10m' } }, closed: {} }

/** What the page keeps of its stream. */
interface Seen {
  data: Array<[channel: string, data: number]>
  gaps: number
  connected: number
  ends: object[]
  source: EventSource
}

t.test('curl -N shows events as they come', async (t) => {
  const { app, url } = await startApp(t, { fallback: true, channels })
  const curl = spawn(findProgram('curl')!, ['-sN', `${httpOf(url)}/connection/uni_sse?channel=news`], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => curl.kill())
  let text = ''
  curl.stdout.setEncoding('utf8').on('data', chunk => { text += chunk })
  await until(() => text.includes('event: connected'), 'the first event')
  await app.realtime.publish('news', { text: 'hello' })
  await until(() => text.includes('data: {"channel":"news"'), 'the publication')
  t.match(text, /^event: connected\nretry: \d+\nid: 1~\S+\ndata: \{"client":"[^"]+","channels":\{"news":\{"offset":0,"epoch":"[^"]+"\}\}\}\n\n/)
  const exited = once(curl, 'close')
  await app.close()
  await exited
  t.match(text, /event: disconnect\nretry: \d+\ndata: \{"code":1001,"reason":"shutdown","reconnect":true\}\n\n$/)
})

t.test('EventSource of Chromium', async (t) => {
  const whole = t
  const browser = await launchBrowser(t)
  let page = await browser.newPage()
  const redis = await startRedis(t)
  const options: Options = {
    fallback: true,
    redis: redis.url,
    keyPrefix: randomPrefix(),
    channels,
    allowedOrigins: '*',
    authenticate: ({ query }) => ({ user: String((query as { user?: string }).user ?? '') })
  }
  let serving = await startApp(t, options)
  const publisher = await startApp(t, options)
  const balancer = await startBalancer(t, [serving.url])
  const open = (query: string) => page.evaluate(url => {
    const source = new EventSource(url)
    const seen: Seen = { data: [], gaps: 0, connected: 0, ends: [], source }
    source.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      if ('data' in message) seen.data.push([message.channel, message.data])
      if (message.recovered === false) seen.gaps++
    }
    source.addEventListener('connected', () => { seen.connected++ })
    source.addEventListener('disconnect', event => { seen.ends.push(JSON.parse((event as MessageEvent).data)) })
    Object.assign(globalThis, { seen })
  }, `${httpOf(balancer.url)}/connection/uni_sse?${query}`)
  const seen = () => page.evaluate(() => {
    const { source, ...seen } = (globalThis as unknown as { seen: Seen }).seen
    return { ...seen, state: source.readyState }
  })

  t.test('comes back to another instance when its own is replaced or dies, and misses nothing', async (t) => {
    await open('channel=a&channel=b')
    await until(async () => (await seen()).connected === 1, 'the stream')
    let count = 0
    const publish = async (n: number) => {
      for (let i = 0; i < n; i++) await publisher.app.realtime.publish('ab'[count % 2]!, count++)
    }
    await publish(20)
    for (const how of ['closed', 'cut'] as const) {
      const next = await startApp(whole, options)
      balancer.targets = [next.url]
      const before = (await seen()).connected
      const gone = how === 'closed' ? serving.app.close() : Promise.resolve(balancer.cut())
      await publish(20)
      await gone
      await until(async () => (await seen()).connected > before, 'it is back')
      await publish(20)
      serving = next
    }
    await until(async () => (await seen()).data.length >= count, 'all of it')
    const { data, gaps } = await seen()
    t.equal(gaps, 0)
    for (const [i, name] of ['a', 'b'].entries()) {
      t.strictSame(data.filter(([channel]) => channel === name).map(([, n]) => n), Array.from({ length: count / 2 }, (_, n) => 2 * n + i))
    }
    t.strictSame((await seen()).ends[0], { code: 1001, reason: 'shutdown', reconnect: true })
  })

  t.test('stops when it is told to, and when a channel is refused', async (t) => {
    await open('channel=a&user=42')
    await until(async () => (await seen()).connected === 1, 'the stream')
    await publisher.app.realtime.disconnect('42')
    await until(async () => (await seen()).state === 2, 'it has stopped')
    const { ends, connected } = await seen()
    t.strictSame([ends, connected], [[{ code: 3503, reason: 'force disconnect', reconnect: false }], 1])
    await open('channel=closed:1')
    await until(async () => (await seen()).state === 2, 'it has stopped')
    t.equal((await seen()).connected, 0)
  })

  t.test('tries again where there is no room', async (t) => {
    const full = await startApp(t, { ...options, maxConnections: 1 })
    balancer.targets = [full.url]
    await page.close() // with the streams of before
    page = await browser.newPage()
    balancer.cut() // Chromium would use the connection that it has
    const other = await events(t, full.url, ['a'])
    await open('channel=a')
    await until(async () => (await seen()).ends.length > 0, 'it is told')
    other.close()
    await until(async () => (await seen()).connected === 1, 'there is room')
    t.match((await seen()).ends[0], { code: 503, reconnect: true })
  })
})
