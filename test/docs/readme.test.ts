import { Centrifuge } from 'centrifuge'
import type { PublicationContext } from 'centrifuge'
import t from 'tap'
import WebSocket from 'ws'
import { contextForPages } from '../helpers/browser.ts'
import { startBlock } from '../helpers/docs.ts'
import { readPage } from '../helpers/markdown.ts'
import { connect } from '../helpers/ws-client.ts'

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): ArrayLike<{ textContent: string }> }

t.test('the smallest app and its page: what one window sends, others show, also one that comes later, and an SDK elsewhere gets', async (t) => {
  const html = readPage('README.md').blocks.find(({ language }) => language === 'html')!.code
  const port = await startBlock(t, 'README.md', 'server', { 'index.html': html })
  const context = await contextForPages(t)
  const [one, two] = await Promise.all([context.newPage(), context.newPage()])

  const client = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, { websocket: WebSocket })
  t.teardown(() => client.disconnect())
  const chat = client.newSubscription('chat:lobby')
  const subscribed = new Promise(resolve => chat.once('subscribed', resolve))
  const publication = new Promise<PublicationContext>(resolve => chat.once('publication', resolve))
  chat.subscribe()
  client.connect()
  await Promise.all([subscribed, ...[one, two].map(page => page.goto(`http://127.0.0.1:${port}/`))])

  await one.fill('input', 'Hello from a window')
  await one.press('input', 'Enter')
  t.strictSame((await publication).data, { text: 'Hello from a window' })
  const three = await context.newPage()
  await three.goto(`http://127.0.0.1:${port}/`)
  await Promise.all([one, two, three].map(page => page.waitForFunction(() => document.querySelectorAll('li')[0]?.textContent === 'Hello from a window')))
})

t.test('the smallest app without an SDK: what a client sends, all get', async (t) => {
  const port = await startBlock(t, 'README.md', 'plain')
  const clients = await Promise.all([connect(t, `ws://127.0.0.1:${port}/ws`), connect(t, `ws://127.0.0.1:${port}/ws`)])
  clients[0]!.socket.send('Hello')
  t.strictSame(await clients[0]!.next(), '{"text":"Hello"}')
  t.strictSame(await clients[1]!.next(), '{"text":"Hello"}')
})
