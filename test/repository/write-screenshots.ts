// Writes the pictures of the chat and the inspector that README and docs show: `npm run screenshots`.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { launchBrowser } from '../helpers/browser.ts'
import { takeChatPicture, PICTURE_FILES } from '../helpers/chat-picture.ts'
import type { ColorScheme } from '../helpers/chat-picture.ts'
import { buildChat } from '../helpers/chat.ts'
import type { Owner } from '../helpers/chat.ts'
import { INSPECTOR_PICTURE_FILES, takeInspectorPicture } from '../helpers/inspector-picture.ts'

const ends: Array<() => unknown> = []
const owner = {
  teardown: (end: () => unknown) => { ends.unshift(end) },
  fail: (message: string) => { throw new Error(message) }
} as unknown as Owner

async function write (file: string, picture: Buffer): Promise<void> {
  const path = resolve(import.meta.dirname, '../..', file)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, picture)
  console.log(file)
}

try {
  const folder = await buildChat(owner)
  const browser = await launchBrowser(owner)
  for (const colorScheme of ['light', 'dark'] as ColorScheme[]) {
    await write(PICTURE_FILES[colorScheme], await takeChatPicture(owner, folder, browser, colorScheme))
    await write(INSPECTOR_PICTURE_FILES[colorScheme], await takeInspectorPicture(owner, browser, colorScheme))
  }
} finally {
  for (const end of ends) await end()
}
