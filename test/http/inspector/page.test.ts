import type { BrowserContextOptions, Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { launchBrowser } from '../../helpers/browser.ts'
import { hasCount, hasTexts, PATIENCE } from '../../helpers/chat.ts'
import { startCore } from '../../helpers/core.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

/** For the functions that run inside the page. */
declare const document: any
declare const getComputedStyle: (element: unknown) => Record<string, string>

t.setTimeout(300_000)

const browser = await launchBrowser(t)
const redis = await startRedis(t)

const USERS = '#connections bdi'
const PHONE = { width: 360, height: 740 }

/** Lists the texts whose contrast is below WCAG's 4.5. A string: what makes JavaScript of this file adds helpers. */
const FIND_LOW_CONTRAST = `(() => {
  const luminance = color => {
    const [r, g, b] = Array.from(color.matchAll(/[\\d.]+/g), ([value]) => value / 255)
      .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const backgroundOf = element => {
    const color = getComputedStyle(element).backgroundColor
    return color.startsWith('rgb(') ? color : backgroundOf(element.parentElement)
  }
  const found = []
  for (const element of document.querySelectorAll('h1, h2, label, td, th, a, button, code, .second, .hint, #state, .count, input, select, textarea')) {
    if (!element.checkVisibility()) continue
    const [a, b] = [getComputedStyle(element).color, backgroundOf(element)].map(luminance).sort((x, y) => y - x)
    const contrast = (a + 0.05) / (b + 0.05)
    if (contrast < 4.5) found.push(element.outerHTML.slice(0, 80) + ': ' + contrast.toFixed(2))
  }
  return found
})()`

/** Clients say who they are, and where they want to be. */
const clients: Options = {
  channels: { news: { subscribe: true, publish: true, history: { size: 10, ttl: '1m' } } },
  authenticate: ({ query }) => ({ user: (query as { user?: string }).user }),
  onMessage: () => {},
  onConnect: (connection, { query }) => {
    const { in: channel } = query as { in?: string }
    return channel === undefined ? undefined : connection.subscribe(channel)
  }
}

async function startTwo (t: Test) {
  const inspect = { authorize: () => 'ada@example.com' }
  const options: Options = { ...clients, redis: redis.url, keyPrefix: randomPrefix(), inspectPath: '/inspect', inspect }
  const { logger, entries } = collectLog()
  const one = await startApp(t, options, { logger })
  const two = await startApp(t, options)
  const idOf = async ({ app }: typeof one) => (await app.inject('/health')).json().instance as string
  return { one, two, ids: [await idOf(one), await idOf(two)] as const, entries, options }
}

/** The page of an instance. An error of its script, or what its policy forbids, fails the test. */
async function openInspector (
  t: Test, url: string, hash = '', context: BrowserContextOptions = {}, prepare?: (page: Page) => Promise<unknown>
): Promise<Page> {
  const made = await browser.newContext({ reducedMotion: 'reduce', ...context })
  t.teardown(() => made.close())
  const page = await made.newPage()
  page.on('pageerror', error => t.fail('error on the page', { found: error.stack }))
  page.on('console', message => {
    if (/Content Security Policy|Trusted/i.test(message.text())) t.fail(message.text())
  })
  await prepare?.(page)
  await page.goto(`${url.replace('ws:', 'http:')}/inspect${hash}`)
  await page.locator('#state:not([data-state=loading])').waitFor({ timeout: PATIENCE })
  return page
}

const ask = (name: string) => new URLSearchParams({ user: name }).toString()

t.test('the page shows both instances and follows who comes and goes', async (t) => {
  const { one, two, ids } = await startTwo(t)
  await connect(t, `${one.url}/ws?${ask('ann')}`)
  const page = await openInspector(t, one.url)
  await hasCount(page, '#instances tr', 2)
  t.strictSame(new Set(await page.locator('#instances td:first-child code').allTextContents()), new Set(ids))
  t.match(await page.locator('#instances tr', { hasText: ids[0] }).textContent(), 'answers you')
  await hasTexts(page, USERS, ['ann'])
  await hasTexts(page, '#state .text', ['Live'])
  const bob = await connect(t, `${two.url}/ws?${ask('bob')}`)
  await hasTexts(page, USERS, ['bob', 'ann'])
  await sdkClient(t, `${two.url}/connection/websocket?${ask('cid')}`, 'json').connected()
  await hasTexts(page, USERS, ['cid', 'bob', 'ann'])
  bob.socket.close()
  await hasTexts(page, USERS, ['cid', 'ann'])

  await page.getByRole('combobox', { name: 'Protocol' }).selectOption('json')
  await hasTexts(page, USERS, ['cid'])
  await page.getByRole('button', { name: 'Clear' }).click()
  await hasTexts(page, USERS, ['cid', 'ann'])
  await page.getByLabel('User contains').fill('AN')
  await hasTexts(page, USERS, ['ann'])
  await hasTexts(page, '#connections-count', ['1'])
  await page.getByLabel('User contains').fill('nobody')
  await page.getByText('No connection matches.').waitFor()
  await page.getByRole('button', { name: 'Clear' }).click()
  await page.getByRole('combobox', { name: 'Instance' }).selectOption(ids[1])
  await hasTexts(page, USERS, ['cid'])
  t.equal(await page.getByRole('combobox', { name: 'Instance' }).inputValue(), ids[1], 'a choice outlives an update')
})

t.test('a channel shows who is in it and what was published, and the page publishes to it', async (t) => {
  const { one, two, entries } = await startTwo(t)
  const ann = await connect(t, `${two.url}/ws?user=ann&in=news:a`)
  await connect(t, `${one.url}/ws?user=bob`)
  const page = await openInspector(t, one.url)
  await page.getByRole('link', { name: 'Channels' }).click()
  await hasTexts(page, '#channels bdi', ['news:a'])
  await page.getByRole('link', { name: 'news:a' }).click()
  await hasTexts(page, '#channel-name', ['news:a'])
  await hasTexts(page, '#connections td:first-child bdi', ['ann'])
  await hasTexts(page, '#publications-none', ['The history is empty now.'])

  await page.getByLabel('Publish to everybody').fill('{ "text": ')
  await page.getByRole('button', { name: 'Publish' }).click()
  await page.getByText('Not published: this is not JSON').waitFor()
  await page.getByLabel('Publish to everybody').fill('{ "text": "from the page" }')
  await page.getByRole('button', { name: 'Publish' }).click()
  t.strictSame(JSON.parse(String(await ann.next())), { text: 'from the page' })
  await hasTexts(page, '#published', ['Published at offset 1.'])
  await hasTexts(page, '#publications pre', ['{"text":"from the page"}'])
  await page.getByRole('combobox', { name: 'As' }).selectOption('text')
  await page.getByLabel('Publish to everybody').fill('as it is')
  await page.getByRole('button', { name: 'Publish' }).click()
  t.equal(await ann.next(), 'as it is')
  await hasTexts(page, '#publications pre', ['as it is', '{"text":"from the page"}'])
  await two.app.realtime.publish('news:a', 'by the app')
  await hasTexts(page, '#publications pre', ['by the app', 'as it is', '{"text":"from the page"}'])
  t.match(entries.filter(({ event }) => event === 'inspect.published'), [{ who: 'ada@example.com', channel: 'news:a' }, { who: 'ada@example.com', channel: 'news:a' }])

  await page.getByRole('link', { name: 'Channels' }).click()
  await page.getByLabel('Any channel, by its name').fill('without/history #1')
  await page.keyboard.press('Enter')
  await hasTexts(page, '#channel-name', ['without/history #1'])
  await page.getByText('The namespace of this channel keeps no history.').waitFor()
  await page.goBack()
  await hasTexts(page, '#channels bdi', ['news:a'])
})

t.test('the page disconnects a connection, or all of a user, by keyboard alone, and the log says who did it', async (t) => {
  const { one, two, entries } = await startTwo(t)
  const ann = await connect(t, `${two.url}/ws?user=ann`)
  const page = await openInspector(t, one.url)
  await hasTexts(page, USERS, ['ann'])
  await page.getByRole('button', { name: /^Disconnect client .* of user ann$/ }).focus()
  const tabs = [await connect(t, `${one.url}/ws?user=bob`), await connect(t, `${two.url}/ws?user=bob`)]
  await hasTexts(page, USERS, ['bob', 'bob', 'ann'])
  t.match(await page.evaluate(() => document.activeElement.ariaLabel), /of user ann$/, 'the focus outlives an update')
  await page.keyboard.press('Enter')
  await hasTexts(page, '#confirm-user', ['ann'])
  await page.keyboard.press('Escape')
  await page.locator('#confirm').waitFor({ state: 'hidden' })
  t.strictSame(entries.filter(({ event }) => event?.startsWith('inspect.')), [], 'nothing is done without confirmation')
  await page.keyboard.press('Enter')
  await page.keyboard.press('Enter')
  t.strictSame(await ann.closed, { code: 3503, reason: 'force disconnect' })
  await hasTexts(page, USERS, ['bob', 'bob'])
  await page.getByRole('button', { name: /of user bob$/ }).first().click()
  await page.getByRole('button', { name: 'Disconnect every connection of this user' }).click()
  t.match(await Promise.all(tabs.map(({ closed }) => closed)), [{ code: 3503 }, { code: 3503 }])
  await hasTexts(page, USERS, [])
  await page.getByText('Every connection of bob is being closed.').waitFor()
  t.match(entries.filter(({ event }) => event === 'inspect.disconnected'), [{ who: 'ada@example.com', connection: String }, { who: 'ada@example.com', user: 'bob' }])
})

t.test('names and payloads that are HTML, very long or written the other way are text, and nothing runs', async (t) => {
  const { one } = await startTwo(t)
  const html = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
  const names = [html, '\u202Eevil', `javascript:alert(1)//${'x'.repeat(200)}`, '"><b>', '{{base}}', '__proto__', '\n']
  for (const name of names) await connect(t, `${one.url}/ws?${new URLSearchParams({ user: name, in: `news:${name.trim() || 'a'}` })}`)
  await one.app.realtime.publish(`news:${html}`, html)
  for (const viewport of [PHONE, { width: 1280, height: 800 }]) {
    const page = await openInspector(t, one.url, '', { viewport })
    const hasNoHtml = async () => {
      t.equal(await page.locator('main img, main b, main script').count(), 0)
      t.notMatch(await page.title(), /^1$/)
      t.ok(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth), `${viewport.width} px need no scrolling to the side`)
    }
    await hasTexts(page, '#connections td:first-child bdi', names.toReversed())
    await hasNoHtml()
    await page.getByRole('link', { name: 'Channels' }).click()
    await hasCount(page, '#channels bdi', names.length)
    t.strictSame(new Set(await page.locator('#channels bdi').allTextContents()), new Set(names.map(name => `news:${name.trim() || 'a'}`)))
    await hasNoHtml()
    await page.locator('#channels a', { hasText: '<img' }).click()
    await hasTexts(page, '#publications pre', [html])
    await hasTexts(page, '#connections td:first-child bdi', [html])
    await hasNoHtml()
    await page.getByRole('button', { name: /^Disconnect client/ }).click()
    await hasTexts(page, '#confirm-user bdi', [html])
    await hasNoHtml()
  }
  const page = await openInspector(t, one.url, '#/channel/%E0%A4%A')
  await hasTexts(page, '#channel-name', ['%E0%A4%A'])
})

t.test('texts can be read, in light and dark', async (t) => {
  const { one } = await startTwo(t)
  await connect(t, `${one.url}/ws?user=ann&in=news:a`)
  const backgrounds = new Set<string>()
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await openInspector(t, one.url, '#/channel/news%3Aa', { colorScheme })
    await hasTexts(page, '#connections td:first-child bdi', ['ann'])
    backgrounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor!))
    const low = await page.evaluate(FIND_LOW_CONTRAST)
    t.strictSame(low, [], colorScheme)
  }
  t.equal(backgrounds.size, 2)
})

t.test('every control has a name, and a row of a table is one on a phone, too', async (t) => {
  const { one } = await startTwo(t)
  await connect(t, `${one.url}/ws?user=ann&in=news:a`)
  for (const hash of ['', '#/channels', '#/channel/news%3Aa']) {
    const page = await openInspector(t, one.url, hash, { viewport: PHONE })
    await hasCount(page, '#instances tr', 2)
    const controls = await page.locator('input:visible, select:visible, textarea:visible, button:visible, a:visible').all()
    for (const control of controls) t.match(await control.ariaSnapshot(), /^- \w+ "[^"]+"|^- combobox "[^"]+"/, hash)
    t.ok(controls.length > 4)
    t.equal(await page.getByRole('row').count() >= 3, true)
  }
})

t.test('a page that nobody sees, or that is paused, asks nothing', async (t) => {
  const { one } = await startTwo(t)
  let asked = 0
  const page = await openInspector(t, one.url, '', {}, async (page) => {
    await page.clock.install()
    page.on('request', request => { if (request.url().endsWith('/view')) asked++ })
  })
  const setHidden = (hidden: boolean) => page.evaluate(hidden => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, hidden)
  await setHidden(true)
  const before = asked
  await page.clock.runFor(60_000)
  t.equal(asked, before)
  const back = page.waitForResponse(/view$/)
  await setHidden(false)
  await back
  t.equal(asked, before + 1, 'it asks as soon as it is seen again')
  await page.getByRole('button', { name: 'Pause' }).click()
  await hasTexts(page, '#state .text', ['Paused'])
  const paused = asked
  await page.clock.runFor(60_000)
  t.equal(asked, paused)
  const again = page.waitForResponse(/view$/)
  await page.getByRole('button', { name: 'Pause' }).click()
  await again
})

t.test('an instance that does not answer is named, and so is why the page cannot be loaded', async (t) => {
  const keyPrefix = randomPrefix()
  const own = await startRedis(t)
  let refused = false
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, {
    ...clients,
    redis: own.url,
    keyPrefix,
    inspectPath: '/inspect',
    inspect: {
      authorize: () => {
        if (refused) throw Object.assign(new Error('log in again'), { statusCode: 401 })
        return 'ada'
      }
    }
  }, { logger })
  const silent = await startCore(t, { redis: own.url, keyPrefix })
  await connect(t, `${url}/ws?user=ann`)
  const page = await openInspector(t, url)
  await hasTexts(page, '#missing', [`No answer from ${silent.id}: crashed, overloaded, or running another release`])
  own.kill()
  await until(() => entries.some(({ event }) => event === 'bridge.down'), 'Redis is down')
  await page.getByText(/^The other instances cannot be asked, so this page shows only instance .*: Redis is down/).waitFor({ timeout: PATIENCE })
  await hasTexts(page, '#state .text', ['One instance'])
  await hasTexts(page, USERS, ['ann'])
  await page.getByRole('button', { name: /of user ann$/ }).click()
  await page.getByRole('button', { name: 'Disconnect this connection' }).click()
  await page.getByText(/^Not disconnected: Redis is down/).waitFor()
  refused = true
  await hasTexts(page, '#failed', ['Not authenticated: log in again (FST_CRWS_UNAUTHORIZED). Reload this page to log in.'])
  await hasTexts(page, '#state .text', ['No answer'])
  refused = false
  await page.locator('#failed').waitFor({ state: 'hidden', timeout: PATIENCE })
  t.ok(app.server.listening)
})
