import { SignJWT } from 'jose'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { connect as connectTcp, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'
import type { Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import { buildPackage } from '../helpers/built-package.ts'
import { findProgram } from '../helpers/programs.js'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import type { SdkClient } from '../helpers/sdk.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): ArrayLike<{ textContent: string }> }

const root = resolve(import.meta.dirname, '../..')
/** ms that a page may take to show something: the browser, two servers and other tests share the machine. */
const PATIENCE = 40_000
const SECRET = secretOf('of the tests')
/** A port on which nothing listens. */
const NO_SERVER = 1

t.setTimeout(600_000)

// The example imports the built package by its name. Both are copied into a folder of the test's own, where no other
// build interferes.
const folder = await mkdtemp(join(tmpdir(), 'example-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
await Promise.all([
  buildPackage(folder),
  cp(join(root, 'example'), join(folder, 'example'), { recursive: true })
])

const browser = await chromium.launch({
  executablePath: findProgram('chromium')!,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'
  ]
})
t.teardown(() => browser.close())
// A page's storage belongs to its origin, so people use different ports.
const context = await browser.newContext({ reducedMotion: 'reduce' })

// Starting takes time, so all tests share these.
const redis = await startRedis(t)
const [one, two, alone] = await Promise.all([startServer(t, redis.url), startServer(t, redis.url), startServer(t)])

t.test('two windows on two instances', async (t) => {
  const proxy = await startProxy(t, one.port)
  const ada = await openWindow(t, proxy, 'Ada', 'general')
  await write(ada, 'before Grace came')
  await shows(ada, ['before Grace came'])
  // Her first token expires soon. The last subtest waits for the next one.
  const frames: string[] = []
  const sockets: unknown[] = []
  const grace = await openWindow(t, two, 'Grace', 'general', async (page) => {
    await page.route('**/token', async (route) => {
      const { user } = await (await route.fetch()).json()
      await route.fulfill({ json: { user, token: await sign({ user, life: '10s' }) } })
    }, { times: 1 })
    page.on('websocket', (socket) => {
      sockets.push(socket)
      socket.on('framereceived', ({ payload }) => frames.push(String(payload)))
    })
  })
  const said = ['before Grace came']
  const bothShow = async (...texts: string[]) => {
    said.push(...texts)
    await Promise.all([shows(ada, said), shows(grace, said)])
    t.equal(await ada.locator('#notice').isVisible() || await grace.locator('#notice').isVisible(), false, 'no error is shown')
    t.equal(await ada.locator('.note').count() + await grace.locator('.note').count(), 0, 'nothing is missing')
  }

  await t.test('talk, see who is here and who is typing, and what was said before', async (t) => {
    t.not(await instanceOf(ada), await instanceOf(grace))
    await bothShow()
    await write(grace, 'hello Ada')
    await bothShow('hello Ada')
    await Promise.all([hasPeople(ada, ['Ada', 'Grace']), hasPeople(grace, ['Ada', 'Grace'])])

    await ada.getByLabel('Message', { exact: true }).pressSequentially('wait')
    await hasTexts(grace, '#typing', ['Ada is typing…'])
    await hasTexts(grace, '#typing', [''])
    t.equal(await ada.locator('#typing').textContent(), '')
  })

  await t.test('lose nothing by the crash of an instance', async (t) => {
    const before = await instanceOf(ada)
    await one.kill()
    await hasState(ada, 'reconnecting')
    const kept = ['kept 1', 'kept 2', 'kept 3']
    const missed = ['missed 1', 'missed 2', 'missed 3']
    for (const text of kept) await write(ada, text)
    for (const text of missed) await write(grace, text)
    await shows(grace, [...said, ...missed])
    t.strictSame(await textsOf(ada, '.pending .status'), kept.map(() => 'waits for the connection'))
    await one.start()
    await bothShow(...missed, ...kept)
    await isSent(ada)
    t.not(await instanceOf(ada), before)
    await Promise.all([hasPeople(ada, ['Ada', 'Grace']), hasPeople(grace, ['Ada', 'Grace'])])
  })

  await t.test('lose nothing by a planned shutdown while both write', async (t) => {
    const before = await instanceOf(ada)
    const texts = (name: string) => Array.from({ length: 20 }, (_, i) => `${name} ${i}`)
    const writeAll = async (page: Page, name: string) => {
      for (const text of texts(name)) await write(page, text)
    }
    const written = Promise.all([writeAll(ada, 'a'), writeAll(grace, 'g')])
    await hasCount(ada, MESSAGES, said.length + 10)
    proxy.target = two.port
    const exitCode = await one.stop()
    await written
    await Promise.all([ada, grace].map(async page => {
      await isSent(page)
      await hasCount(page, MESSAGES, said.length + 40)
    }))
    const seen = (await textsOf(ada)).slice(said.length)
    t.strictSame(seen.filter(text => text.startsWith('a')), texts('a'))
    t.strictSame(seen.filter(text => text.startsWith('g')), texts('g'))
    await bothShow(...seen)
    t.equal(exitCode, 0)
    t.not(await instanceOf(ada), before)
    t.equal(await instanceOf(ada), await instanceOf(grace))
  })

  await t.test('see a room that somebody makes, and what is new in it', async (t) => {
    const room = (page: Page, name: string) => page.getByRole('navigation').getByRole('button', { name })
    t.strictSame((await textsOf(ada, '#rooms .name')).slice(0, 3), ['general', 'random', 'help'])
    await ada.getByLabel('Name of a room to create or join').fill('Release Plans')
    await ada.keyboard.press('Enter')
    await write(ada, 'first')
    await room(grace, 'release-plans').click({ timeout: PATIENCE })
    await shows(grace, ['first'])
    await hasPeople(grace, ['Ada', 'Grace'])
    t.match(await grace.title(), /release-plans/)

    await room(grace, 'general').click()
    await shows(grace, said)
    await write(ada, 'second')
    await grace.getByLabel('1 unread').waitFor({ timeout: PATIENCE })
    await room(grace, 'release-plans').click()
    await shows(grace, ['first', 'second'])
    t.equal(await grace.getByLabel('1 unread').count(), 0)

    await grace.getByRole('button', { name: 'Leave release-plans' }).click()
    await hasPeople(ada, ['Ada'])
  })

  await t.test('change their name', async (t) => {
    await ada.getByRole('button', { name: 'Change name' }).click()
    await ada.getByLabel('Name', { exact: true }).fill('Countess')
    await ada.getByRole('button', { name: 'Continue' }).click()
    await hasPeople(ada, ['Countess'])
    await write(ada, 'still me')
    await shows(ada, ['first', 'second', 'still me'])
    t.equal(await ada.locator('.message.own:has-text("still me") .name').textContent(), 'Countess')
    t.equal(await ada.locator('#log ol:not([hidden]) .message.own').count(), 3, 'her earlier messages are still hers')
  })

  await t.test('get a new token before the old one has expired', async (t) => {
    await until(() => frames.some(frame => frame.includes('"refresh":{')), 'the server has taken another token', PATIENCE)
    t.equal(sockets.length, 1, 'over the same connection')
    await hasState(grace, 'connected')
  })
})

t.test('one instance needs no Redis and no secret', async (t) => {
  const proxy = await startProxy(t, alone.port)
  const first = await openWindow(t, proxy, 'Ada', 'alone')
  const html = '<img src=x onerror=alert(1)>'
  await write(first, html)
  await shows(first, [html])
  t.equal(await first.locator('#log img').count(), 0, 'what people write is text')

  const second = await context.newPage()
  t.teardown(() => second.close())
  await second.goto(`${proxy.url}/#/alone`)
  await shows(second, [html])
  await hasPeople(second, ['Ada'])
  await write(second, 'me again')
  await shows(first, [html, 'me again'])
  t.equal(await first.locator('.own').count(), 2, 'all windows of a browser are one person')
  await first.close()
  await hasPeople(second, ['Ada'])

  // After a crash the instance has lost everything, even the secret of the tokens.
  await alone.kill()
  await hasState(second, 'reconnecting')
  await write(second, 'is anybody there?')
  proxy.target = NO_SERVER
  await alone.start()
  const { token } = await tokenFor('Grace', alone)
  const grace = await sdkClient(t, alone.socketUrl, 'json', { token }).connected()
  await grace.publish('room:alone', { id: 'a', text: 'where is Ada?' })
  proxy.target = alone.port
  await isSent(second)
  await shows(second, [html, 'me again', 'where is Ada?', 'is anybody there?'])
  await hasTexts(second, '#log li:nth-child(3)', ['Messages from while you were away may be missing here.'])
  await second.reload()
  await shows(second, ['where is Ada?', 'is anybody there?'])
})

t.test('a token needs a proper name', async (t) => {
  const wrong = [undefined, '', ' Ada', 'Ada ', 'A\u0000', 'a'.repeat(33), ['Ada', 'Ada'], {}]
  const responses = await Promise.all(wrong.map(name => askToken(two, { name })))
  t.strictSame(responses.map(({ status }) => status), wrong.map(() => 400))
  t.equal((await askToken(two, { name: 'a'.repeat(32) })).status, 200)
})

t.test('a token of ours makes somebody the same person again, and nothing else does', async (t) => {
  const { user, token } = await tokenFor('Ada')
  const userFor = async (token: string) => (await tokenFor('Ada', two, token)).user
  t.equal(await userFor(token), user)
  t.equal(await userFor(await sign({ user, life: '-1 day' })), user)
  t.not(await userFor(await sign({ user, life: '-31 days' })), user)
  t.not(await userFor(await sign({ user, secret: 'of somebody else' })), user)
  t.not(await userFor('nonsense'), user)
})

t.test('a client needs a token of ours', async (t) => {
  t.strictSame(await sdkClient(t, two.socketUrl, 'json').disconnected(), { code: 3501, reason: 'bad request' })
  const forged = sdkClient(t, two.socketUrl, 'json', { token: await sign({ secret: 'of somebody else' }) })
  t.strictSame(await forged.disconnected(), { code: 3500, reason: 'invalid token' })
  const getToken = () => sign({ user: 'ada' })
  const late = await sdkClient(t, two.socketUrl, 'json', { token: await sign({ user: 'ada', life: '-1 day' }), getToken }).connected()
  t.match(late.events.connected, [{ data: { instance: /^port-/, rooms: ['general', 'random', 'help'] } }])
})

t.test('a message has its own fields and the sender that the token names, and nothing else', async (t) => {
  const [ada, grace] = await Promise.all([connectAs(t, 'Ada'), connectAs(t, 'Grace')])
  const [heard, typing] = [grace.subscribe('room:again'), grace.subscribe('typing:again')]
  await Promise.all([heard.subscribed(), typing.subscribed()])
  const message = { id: 'same', text: 'hello', user: 'grace', name: 'Grace', time: 1, more: true }
  await ada.publish('typing:again', message)
  for (let i = 0; i < 2; i++) await ada.publish('room:again', message)
  // The id belongs to Ada: the same id from Grace is another message.
  await grace.publish('room:again', { id: 'same', text: 'hi' })
  await heard.arrived(2)
  t.match(heard.data, [{ text: 'hello' }, { text: 'hi' }])
  const { time, ...published } = heard.data[0] as { time: number }
  t.strictSame(published, { id: 'same', text: 'hello', user: 'ada', name: 'Ada' })
  t.ok(time > 1)
  t.strictSame(typing.data, [{ user: 'ada', name: 'Ada' }])
})

t.test('a wrong channel or message is refused, and the connection stays', async (t) => {
  const client = await connectAs(t, 'Ada')
  const messageOf = (channel: string, data: unknown) => {
    return client.publish(channel, data).then(() => 'published', (error: Error) => error.message)
  }
  /** Each publication in the channel is refused with this message. */
  const areRefused = async (channel: string, list: unknown[], message: string) => {
    t.strictSame(await Promise.all(list.map(data => messageOf(channel, data))), list.map(() => message))
  }
  const rooms = 'room must be 1 to 32 small letters, digits, - or _'
  const ids = 'id must be 1 to 64 letters, digits, - or _'
  const wrong = ['', 'A', 'a b', 'a:b', 'a'.repeat(33), 'a#ada'].flatMap(room => [`room:${room}`, `typing:${room}`])
  const ends = await Promise.all(wrong.map(channel => client.subscribe(channel).unsubscribed()))
  t.strictSame(ends, wrong.map(() => ({ code: 400, reason: rooms })))
  const messages = await Promise.all(wrong.map(channel => messageOf(channel, { id: 'a', text: 'a' })))
  t.strictSame(messages, wrong.map(() => rooms))
  t.match(await client.subscribe('lobby:others').unsubscribed(), { code: 400 })
  t.match(await client.subscribe('others').unsubscribed(), { code: 102 })
  await areRefused('lobby:rooms', [{ room: 'of-mine' }], 'permission denied')
  await areRefused('room:wrong', [undefined, 1, '', 'a b', 'a'.repeat(65)].map(id => ({ id, text: 'a' })), ids)
  const texts = [undefined, 1, '', ' \n', 'a'.repeat(2_001), {}]
  await areRefused('room:wrong', texts.map(text => ({ id: 'a', text })), 'text must be 1 to 2000 characters')
  await areRefused('room:wrong', [null, 1, 'text', []], ids)
  await client.publish('room:wrong', { id: 'a', text: 'a'.repeat(2_000) })
  t.equal(client.events.connected.length, 1)
})

t.test('one client can not push the rooms of all others out of the list', async (t) => {
  const listed = async () => {
    const client = await connectAs(t, 'Ada')
    const list = await client.subscribe('lobby:rooms').subscribed()
    const { publications } = await list.sub.history({ limit: 100 })
    client.client.disconnect()
    return publications.map(({ data }) => (data as { room: string }).room)
  }
  const before = await listed()
  for (let i = 0; i < 2; i++) {
    const spammer = await connectAs(t, `Spammer ${i}`)
    const rooms = Array.from({ length: 60 }, (_, n) => spammer.subscribe(`room:spam-${i}-${n}`))
    await Promise.all(rooms.map(room => room.subscribed())) // which it may: they are not listed, that is all
    spammer.client.disconnect()
  }
  const after = await listed()
  t.strictSame(after.slice(0, before.length), before)
  t.ok(after.length - before.length <= 20, `${after.length - before.length} more`)
})

t.test('one address gets no tokens without end', async (t) => {
  const server = await startServer(t)
  const answers = await Promise.all(Array.from({ length: 150 }, () => askToken(server, { name: 'Ada' })))
  const statuses = answers.map(({ status }) => status).toSorted()
  t.strictSame(statuses, [...Array(120).fill(200), ...Array(30).fill(429)])
})

t.test('a client that disconnects while it subscribes leaves no error in the log', async (t) => {
  for (let i = 0; i < 10; i++) {
    const client = await connectAs(t, 'Ada')
    client.subscribe(`room:room-${i}`)
    client.client.disconnect()
  }
  await (await connectAs(t, 'Ada')).subscribe('room:room-1').subscribed()
  t.strictSame(two.errors, [])
})

// Helpers

/** One instance. An error in its log fails the test. */
async function startServer (t: Test, redisUrl?: string) {
  const port = await freePort()
  const { PATH } = process.env
  const env = { PATH, PORT: String(port), ...redisUrl !== undefined && { REDIS_URL: redisUrl, TOKEN_SECRET: SECRET } }
  const errors: string[] = []
  let child: ChildProcess | undefined
  /** Resolves when it listens; the log says so. */
  const start = () => new Promise<void>((resolve, reject) => {
    const started = spawn(process.execPath, [join(folder, 'example/chat/server.mjs')], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    child = started
    started.once('close', (code) => reject(new Error(`the server on port ${port} ended with ${code}`)))
    createInterface(started.stdout).on('line', (line) => {
      const { level, msg } = JSON.parse(line)
      if (level >= 50) errors.push(line)
      if (/^Server listening/.test(msg)) resolve()
    })
  })
  const end = async (signal: NodeJS.Signals) => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'close')
    child.kill(signal)
    const [code] = await exit
    return code
  }
  const onExit = () => { child?.kill('SIGKILL') }
  process.once('exit', onExit)
  t.teardown(async () => {
    process.off('exit', onExit)
    await end('SIGKILL')
    if (errors.length > 0) throw new Error(`logged as an error: ${errors.join('\n')}`)
  })
  await start()
  return {
    port,
    url: `http://localhost:${port}`,
    socketUrl: `ws://localhost:${port}`,
    errors,
    /** Ends as by a crash. */
    kill: () => end('SIGKILL'),
    /** Ends as Cloud Run does it; resolves to the exit code. */
    stop: () => end('SIGTERM'),
    /** Starts again on the same port. */
    start
  }
}

/** A proxy in front of the instances: its address stays when its target changes. */
async function startProxy (t: Test, target: number) {
  const sockets = new Set<Socket>()
  const server = createServer((inside) => {
    const outside = connectTcp(proxy.target, '127.0.0.1')
    for (const [socket, other] of [[inside, outside], [outside, inside]] as const) {
      sockets.add(socket)
      socket.on('error', () => {}) // 'close' follows
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const proxy = { target, url: `http://localhost:${(server.address() as AddressInfo).port}` }
  return proxy
}

/** A port below those for outgoing connections: it stays free while its server is down. */
async function freePort (): Promise<number> {
  const port = 22_000 + Math.floor(Math.random() * 10_000)
  const server = createServer().listen(port, '0.0.0.0')
  const free = await once(server, 'listening').then(() => true, () => false)
  server.close()
  return free ? port : freePort()
}

async function openWindow (
  t: Test, { url }: { url: string }, name: string, room: string, prepare?: (page: Page) => Promise<void>
): Promise<Page> {
  const page = await context.newPage()
  t.teardown(() => page.close())
  page.on('pageerror', (error) => t.fail(`error on the page of ${name}`, { found: error.stack }))
  await prepare?.(page)
  await page.goto(`${url}/#/${room}`)
  await page.getByLabel('Name', { exact: true }).fill(name)
  await page.getByRole('button', { name: 'Continue' }).click()
  await hasState(page, 'connected')
  return page
}

async function write (page: Page, text: string) {
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.getByLabel('Message', { exact: true }).press('Enter')
}

const MESSAGES = '#log ol:not([hidden]) .text'
const PEOPLE = '#people .name'

function textsOf (page: Page, selector = MESSAGES): Promise<string[]> {
  return page.locator(selector).allTextContents()
}

/** Waits until the page shows exactly these messages, in this order. */
async function shows (page: Page, texts: string[]) {
  await hasTexts(page, MESSAGES, texts)
}

async function hasPeople (page: Page, names: string[]) {
  await hasTexts(page, PEOPLE, names)
  await hasTexts(page, '#people-panel .count', [String(names.length)])
}

async function hasTexts (page: Page, selector: string, texts: string[]) {
  await waitFor(page, ({ selector, texts }) => {
    const found = Array.from(document.querySelectorAll(selector), element => element.textContent)
    return JSON.stringify(found) === JSON.stringify(texts)
  }, { selector, texts }, async () => `${await textsOf(page, selector)} instead of ${texts}`)
}

/** Waits for so many elements, or more. */
async function hasCount (page: Page, selector: string, count: number) {
  const found = async () => `only ${await textsOf(page, selector)} at ${selector}`
  await waitFor(page, ({ selector, count }) => document.querySelectorAll(selector).length >= count, { selector, count }, found)
}

/** Waits until the server has taken every message that was written here. */
async function isSent (page: Page) {
  const found = async () => `${await textsOf(page, '.pending .text')} not sent`
  await waitFor(page, () => document.querySelectorAll('.pending').length === 0, undefined, found)
}

/** Polls inside the page, which costs less than to ask the page again and again. */
async function waitFor<Arg> (page: Page, condition: (arg: Arg) => boolean, arg: Arg, found: () => Promise<string>) {
  try {
    await page.waitForFunction(condition as (arg: unknown) => boolean, arg, { polling: 100, timeout: PATIENCE })
  } catch (cause) {
    throw new Error(await found(), { cause })
  }
}

async function hasState (page: Page, state: string) {
  await hasCount(page, `#state[data-state=${state}]`, 1)
}

/** The name of the instance, as the page shows it. */
async function instanceOf (page: Page): Promise<string> {
  await hasState(page, 'connected')
  return await page.locator('#state .instance').textContent() ?? ''
}

/** A token as the server signs it. */
function sign ({ user = 'somebody', life = '10m', secret = SECRET, name = 'Grace' }): Promise<string> {
  const jwt = new SignJWT({ info: { name } }).setProtectedHeader({ alg: 'HS256' }).setSubject(user).setExpirationTime(life)
  return jwt.sign(Buffer.from(secret))
}

function askToken ({ url }: { url: string }, body: object): Promise<Response> {
  return fetch(`${url}/token`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
}

async function tokenFor (name: string, server: { url: string } = two, token?: string): Promise<{ user: string, token: string }> {
  const response = await askToken(server, { name, token })
  return await response.json() as { user: string, token: string }
}

/** A client without a page. */
async function connectAs (t: Test, name: string): Promise<SdkClient> {
  return sdkClient(t, two.socketUrl, 'json', { token: await sign({ user: name.toLowerCase(), name }) }).connected()
}
