import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import type { Browser } from 'playwright-core'
import WebSocket from 'ws'
import cloudRunWebSocket from '../../index.ts'
import { sharedMemory } from '../../testing.ts'
import type { Owner } from './chat.ts'
import type { ColorScheme } from './chat-picture.ts'
import { hasCount } from './chat.ts'

/** Pixels of the picture, and bytes at most. */
export const INSPECTOR_PICTURE = { width: 1200, height: 1120, maxBytes: 160_000 }
export const INSPECTOR_PICTURE_FILES: Record<ColorScheme, string> = { light: 'docs/images/inspector.png', dark: 'docs/images/inspector-dark.png' }

/** Users and the channels they are in. */
const CLIENTS = [
  ['ada', 'chat:release', 'prices:eur'], ['grace', 'chat:release'], ['linus', 'prices:eur'], ['margaret', 'chat:release', 'chat:help'],
  ['edsger', 'chat:help'], ['', 'prices:eur']
] as const

/** A channel on two instances: who is in it, and what was published last, as PNG. */
export async function takeInspectorPicture (t: Owner, browser: Browser, colorScheme: ColorScheme): Promise<Buffer> {
  const redis = sharedMemory()
  const ports: number[] = []
  const apps = await Promise.all([0, 1].map(async () => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, {
      redis,
      shutdown: false,
      inspectPath: '/inspect',
      inspect: { authorize: () => 'ada@example.com' },
      channels: { chat: { history: { size: 10, ttl: '1h' } } },
      authenticate: ({ headers }) => ({ user: String(headers['x-user']), channels: String(headers['x-channels']).split(',') })
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    ports.push((app.server.address() as AddressInfo).port)
    return app
  }))
  for (const [i, [user, ...channels]] of CLIENTS.entries()) {
    const socket = new WebSocket(`ws://127.0.0.1:${ports[i % 2]}/ws`, { headers: { 'x-user': user, 'x-channels': channels.join(',') } })
    t.teardown(() => socket.terminate())
    await once(socket, 'open')
  }
  const context = await browser.newContext({ colorScheme, reducedMotion: 'reduce', viewport: INSPECTOR_PICTURE, locale: 'en-GB' })
  t.teardown(() => context.close())
  const page = await context.newPage()
  await page.goto(`http://127.0.0.1:${ports[0]}/inspect#/channel/${encodeURIComponent('chat:release')}`)
  await hasCount(page, '#connections tr', 3)
  for (const text of ['The release went out while I was writing this.', 'I saw nothing of it: no reload, no gap.']) {
    await apps[1]!.realtime.publish('chat:release', { user: 'ada', text })
  }
  await hasCount(page, '#publications li', 2)
  await page.getByLabel('Publish to everybody').fill('{ "text": "Back in five minutes" }')
  await page.evaluate('document.activeElement.blur()')
  return page.screenshot()
}
