import type { Browser, Page } from 'playwright-core'
import { enter, hasPeople, isSent, makeRoom, openPage, shows, startChat, write } from './chat.ts'
import type { Owner } from './chat.ts'

export type ColorScheme = 'light' | 'dark'

/** Pixels of the picture, and bytes at most: it loads with the README. */
export const PICTURE = { width: 1200, height: 660, maxBytes: 120_000 }
export const PICTURE_FILES: Record<ColorScheme, string> = { light: 'docs/images/chat.png', dark: 'docs/images/chat-dark.png' }

const GAP = 24
const WINDOWS = [{ name: 'Ada', width: 760 }, { name: 'Grace', width: PICTURE.width - 760 - 3 * GAP }] as const
const HEIGHT = PICTURE.height - 2 * GAP
const ROOM = 'Release party'
const TEXTS = [
  [0, 'The release went out while I was writing this.'],
  [1, 'I saw nothing of it: no reload, no gap.'],
  [0, 'The old instances got SIGTERM at 9:02.'],
  [0, 'Why that works: https://cloud.google.com/run'],
  [1, 'Then I will stop mine too.']
] as const

/** Two people who talk, side by side, as PNG. */
export async function takeChatPicture (t: Owner, folder: string, browser: Browser, colorScheme: ColorScheme): Promise<Buffer> {
  const server = await startChat(t, folder)
  const pages: Page[] = []
  for (const { name, width } of WINDOWS) {
    const context = await browser.newContext({ colorScheme, reducedMotion: 'reduce', viewport: { width, height: HEIGHT } })
    t.teardown(() => context.close())
    const page = await openPage(t, context, server, pages.length === 0 ? 'general' : 'release-party')
    await enter(page, name)
    if (pages.length === 0) await makeRoom(page, ROOM)
    else await page.getByLabel('Hide this tip').click()
    pages.push(page)
  }
  const said: string[] = []
  for (const [who, text] of TEXTS) {
    await write(pages[who]!, text)
    said.push(text)
    await Promise.all(pages.map(page => shows(page, said)))
  }
  for (const page of pages) {
    await isSent(page)
    await hasPeople(page, WINDOWS.map(({ name }) => name))
  }
  await pages[1]!.getByLabel('Message', { exact: true }).fill('It is back, and so am I')
  return sideBySide(t, browser, colorScheme, await Promise.all(pages.map(page => page.screenshot())))
}

async function sideBySide (t: Owner, browser: Browser, colorScheme: ColorScheme, shots: Buffer[]): Promise<Buffer> {
  const context = await browser.newContext({ viewport: PICTURE })
  t.teardown(() => context.close())
  const page = await context.newPage()
  const [back, line] = colorScheme === 'light' ? ['#dfe2ee', '#c9cddd'] : ['#05060a', '#2a2f3c']
  const images = shots.map(shot => `<img src="data:image/png;base64,${shot.toString('base64')}">`)
  await page.setContent(`<style>
    body { margin: 0; height: 100vh; display: flex; align-items: center; justify-content: center; gap: ${GAP}px; background: ${back} }
    img { display: block; border-radius: 14px; box-shadow: 0 0 0 1px ${line} }
  </style>${images.join('')}`)
  await page.waitForFunction('Array.from(document.images).every(image => image.complete)')
  return page.screenshot()
}
