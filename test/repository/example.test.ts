import { SignJWT } from 'jose'
import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import { launchBrowser } from '../helpers/browser.ts'
import {
  buildChat, enter, hasCount, hasPeople, hasState, hasTexts, isSent, makeRoom, MESSAGES, openPage, PATIENCE, shows,
  startChat, textsOf, write
} from '../helpers/chat.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import type { SdkClient } from '../helpers/sdk.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'

/** The page's own script. */
const { roomName } = await import(new URL('../../example/chat/public/room-name.js', import.meta.url).href)
const SECRET = secretOf('of the tests')
/** A port on which nothing listens. */
const NO_SERVER = 1

t.setTimeout(600_000)

const folder = await buildChat(t)
const browser = await launchBrowser(t)
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
    await makeRoom(ada, 'Über Design & Co')
    t.match(ada.url(), /#\/uber-design-co$/)
    await write(ada, 'first')
    await room(grace, 'Über Design & Co').click({ timeout: PATIENCE })
    await shows(grace, ['first'])
    await hasPeople(grace, ['Ada', 'Grace'])
    t.match(await grace.title(), /^Über Design & Co/)
    t.equal(await grace.locator('#room-name').textContent(), '# Über Design & Co')

    await room(grace, 'general').click()
    await shows(grace, said)
    await write(ada, 'second')
    await grace.getByLabel('1 unread').waitFor({ timeout: PATIENCE })
    await room(grace, 'Über Design & Co').click()
    await shows(grace, ['first', 'second'])
    t.equal(await grace.getByLabel('1 unread').count(), 0)

    await grace.getByRole('button', { name: 'Leave Über Design & Co' }).click()
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

t.test('after a restart without Redis "Today" stands once, and everybody has the colour they had', async (t) => {
  const server = await startServer(t)
  const ada = await openWindow(t, server, 'Ada', 'colours')
  const grace = await openOwnWindow(t, 'Grace', 'colours', server)
  await write(ada, 'before')
  await shows(grace, ['before'])
  await server.kill()
  await hasState(ada, 'reconnecting')
  await hasState(grace, 'reconnecting')
  await server.start()
  await hasCount(grace, '.note', 1)
  await hasState(ada, 'connected')
  await write(ada, 'after')
  await shows(grace, ['before', 'after'])
  t.equal(await grace.locator('[data-day]').count(), 1)
  t.equal(await grace.locator('.message.follows').count(), 0, 'a message after the note says whose it is')
  await hasPeople(grace, ['Ada', 'Grace'])
  const colours = await grace.locator('.message .avatar, .person:has-text("Ada") .avatar').evaluateAll(avatars => {
    return (avatars as unknown as Array<{ style: { getPropertyValue (name: string): string } }>).map(({ style }) => style.getPropertyValue('--hue'))
  })
  t.equal(colours.length, 3)
  t.equal(new Set(colours).size, 1)
})

t.test('the page asks for a name before it says that it connects, and tells what to try', async (t) => {
  const small = await browser.newContext({ reducedMotion: 'reduce', viewport: { width: 320, height: 568 } })
  t.teardown(() => small.close())
  const page = await openPage(t, small, alone, 'hints')
  await page.getByRole('dialog').waitFor({ timeout: PATIENCE })
  t.equal(await page.locator('#state').textContent(), '')
  await enter(page, 'Ada')
  t.equal(await page.locator('#state').textContent(), 'Connected')
  t.match(await page.locator('#tip').textContent(), 'open a second window')
  t.equal(await page.evaluate('document.documentElement.scrollWidth'), 320)

  await page.getByLabel('Hide this tip').press('Enter')
  t.equal(await page.locator('#tip').isVisible(), false)
  await page.reload()
  await hasState(page, 'connected')
  t.equal(await page.locator('#tip').isVisible(), false)
})

t.test('the name of the instance stands behind a button, for the keyboard too', async (t) => {
  const page = await openOwnWindow(t, 'Ada', 'about')
  const name = await instanceOf(page)
  t.match(name, /^port-/)
  t.equal((await page.locator('body').innerText()).includes(name), false)
  await page.getByRole('button', { name: 'About this connection' }).press('Enter')
  t.equal(await page.locator('#about').isVisible(), true)
  t.match(await page.locator('body').innerText(), `Connected by WebSocket to the instance ${name}`)
  await page.keyboard.press('Escape')
  t.equal(await page.locator('#about').isVisible(), false)
})

t.test('the send button looks alive as long as there is something to send', async (t) => {
  const page = await openOwnWindow(t, 'Ada', 'send')
  /** The colour of the button, and of what is inside the outline of its icon. */
  const look = (): Promise<string[]> => page.evaluate(`
    [getComputedStyle(document.querySelector('.send')).backgroundColor, getComputedStyle(document.querySelector('.send svg')).fill]`)
  const empty = await look()
  t.equal(empty[1], 'none')
  await page.getByLabel('Message', { exact: true }).pressSequentially('h')
  const ready = await look()
  t.not(ready[0], empty[0])
  t.not(ready[1], 'none')
  await page.getByLabel('Send', { exact: true }).click()
  await shows(page, ['h'])
  t.strictSame(await look(), empty)
})

t.test('addresses in a message are links, and nothing else is', async (t) => {
  const page = await openOwnWindow(t, 'Ada', 'links')
  const text = 'See https://example.org/a_(b), (HTTP://example.com/x?y=1&z="no). javascript:alert(1) //example.org http:// ftp://a'
  await write(page, text)
  await shows(page, [text])
  const links = await page.locator('#log a').evaluateAll(all => {
    return (all as unknown as Array<Record<'textContent' | 'href' | 'rel' | 'target', string>>).map(({ textContent, href, rel, target }) => ({ textContent, href, rel, target }))
  })
  const safe = { rel: 'noopener noreferrer', target: '_blank' }
  t.strictSame(links, [
    { textContent: 'https://example.org/a_(b)', href: 'https://example.org/a_(b)', ...safe },
    { textContent: 'HTTP://example.com/x?y=1&z=', href: 'http://example.com/x?y=1&z=', ...safe }
  ])
})

t.test('a room is listed by a title that makes its name, and by no other', async (t) => {
  const client = await connectAs(t, 'Ada')
  const list = await client.subscribe('lobby:rooms').subscribed()
  for (const [channel, title] of [['room:cafe-1', '#  Café 1 '], ['room:quiet', 'general'], ['room:odd', 7]] as const) {
    await client.subscribe(channel, { data: { title } }).subscribed()
  }
  await list.arrived(3)
  t.strictSame(list.data.slice(-3), [{ room: 'cafe-1', title: 'Café 1' }, { room: 'quiet', title: 'quiet' }, { room: 'odd', title: 'odd' }])
  const names = ['Über Design & Co', '日本 語', 'हिन्दी', '한국어', ' --- ', 'a'.repeat(31) + ' b'].map(roomName)
  t.strictSame(names, ['uber-design-co', '日本-語', 'हिन्दी', '한국어', '', 'a'.repeat(31)])
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
function startServer (t: Test, redisUrl?: string) {
  return startChat(t, folder, redisUrl === undefined ? {} : { REDIS_URL: redisUrl, TOKEN_SECRET: SECRET })
}

async function openWindow (t: Test, server: { url: string }, name: string, room: string, prepare?: (page: Page) => Promise<void>) {
  const page = await openPage(t, context, server, room, prepare)
  await enter(page, name)
  return page
}

/** Of somebody who has no other window, whatever other tests have opened. */
async function openOwnWindow (t: Test, name: string, room: string, server = alone) {
  const own = await browser.newContext({ reducedMotion: 'reduce' })
  t.teardown(() => own.close())
  const page = await openPage(t, own, server, room)
  await enter(page, name)
  return page
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

/** The name of the instance, as the page shows it behind its "i". */
async function instanceOf (page: Page): Promise<string> {
  await hasState(page, 'connected')
  return await page.locator('#about .instance').textContent() ?? ''
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
