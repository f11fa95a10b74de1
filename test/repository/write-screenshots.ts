// Writes the pictures of the chat that README and docs show: `npm run screenshots`.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { launchBrowser } from '../helpers/browser.ts'
import { takeChatPicture, PICTURE_FILES } from '../helpers/chat-picture.ts'
import type { ColorScheme } from '../helpers/chat-picture.ts'
import { buildChat } from '../helpers/chat.ts'
import type { Owner } from '../helpers/chat.ts'

const ends: Array<() => unknown> = []
const owner = {
  teardown: (end: () => unknown) => { ends.unshift(end) },
  fail: (message: string) => { throw new Error(message) }
} as unknown as Owner

try {
  const folder = await buildChat(owner)
  const browser = await launchBrowser(owner)
  for (const [colorScheme, file] of Object.entries(PICTURE_FILES)) {
    const path = resolve(import.meta.dirname, '../..', file)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, await takeChatPicture(owner, folder, browser, colorScheme as ColorScheme))
    console.log(file)
  }
} finally {
  for (const end of ends) await end()
}
