import { readFileSync } from 'node:fs'
import t from 'tap'
import { launchBrowser } from '../helpers/browser.ts'
import { PICTURE, PICTURE_FILES, takeChatPicture } from '../helpers/chat-picture.ts'
import type { ColorScheme } from '../helpers/chat-picture.ts'
import { buildChat } from '../helpers/chat.ts'
import { INSPECTOR_PICTURE, INSPECTOR_PICTURE_FILES, takeInspectorPicture } from '../helpers/inspector-picture.ts'

t.setTimeout(300_000)

/** Width and height, as the header of a PNG has them. */
function sizeOf (png: Buffer) {
  return { isPng: png.toString('latin1', 1, 4) === 'PNG', width: png.readUInt32BE(16), height: png.readUInt32BE(20) }
}

const { width, height, maxBytes } = PICTURE

t.test('the pictures of the chat are there, and small', async (t) => {
  for (const file of Object.values(PICTURE_FILES)) {
    const png = readFileSync(new URL(`../../${file}`, import.meta.url))
    t.strictSame(sizeOf(png), { isPng: true, width, height })
    t.ok(png.length <= maxBytes, `${file}: ${png.length} bytes`)
  }
})

t.test('the chat still looks such that they can be taken again', async (t) => {
  const folder = await buildChat(t)
  const browser = await launchBrowser(t)
  for (const colorScheme of Object.keys(PICTURE_FILES) as ColorScheme[]) {
    const png = await takeChatPicture(t, folder, browser, colorScheme)
    t.strictSame(sizeOf(png), { isPng: true, width, height })
    t.ok(png.length <= maxBytes, `${colorScheme}: ${png.length} bytes`)
  }
})

t.test('the pictures of the inspector are there, small, and can be taken again', async (t) => {
  const { width, height, maxBytes } = INSPECTOR_PICTURE
  const browser = await launchBrowser(t)
  for (const [colorScheme, file] of Object.entries(INSPECTOR_PICTURE_FILES)) {
    const taken = await takeInspectorPicture(t, browser, colorScheme as ColorScheme)
    for (const png of [readFileSync(new URL(`../../${file}`, import.meta.url)), taken]) {
      t.strictSame(sizeOf(png), { isPng: true, width, height })
      t.ok(png.length <= maxBytes, `${file}: ${png.length} bytes`)
    }
  }
})

t.test('the picture of the architecture is an SVG with a title, and takes nothing from elsewhere', async (t) => {
  const svg = readFileSync(new URL('../../docs/images/architecture.svg', import.meta.url), 'utf8')
  t.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="[\d ]+"/)
  t.match(svg, /<title[^>]*>.+<\/title>/)
  t.match(svg, 'prefers-color-scheme: dark')
  t.notMatch(svg, /<script|href=|url\(["']?http|@import/)
  t.ok(Buffer.byteLength(svg) <= 10_000)
})
