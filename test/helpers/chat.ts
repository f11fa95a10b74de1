import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { BrowserContext, Page } from 'playwright-core'
import type { Test } from 'tap'
import { buildPackage } from './built-package.ts'
import { freePort } from './free-port.ts'

/** For the functions that run inside the page. */
declare const document: { querySelectorAll (selector: string): ArrayLike<{ textContent: string }> }

/** A test, or a script that ends what was started for it. */
export type Owner = Pick<Test, 'teardown' | 'fail'>

const root = resolve(import.meta.dirname, '../..')
/** ms that a page may take to show something: the browser, two servers and other tests share the machine. */
export const PATIENCE = 40_000

/**
 * The example imports the built package by its name. Both are copied into a folder of the test's own, where no other
 * build interferes.
 */
export async function buildChat (t: Owner): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'example-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await Promise.all([
    buildPackage(folder),
    cp(join(root, 'example'), join(folder, 'example'), { recursive: true })
  ])
  return folder
}

/** One instance, of the chat or of another example. An error in its log fails the test. */
export async function startChat (t: Owner, folder: string, settings: Record<string, string> = {}, example = 'chat') {
  const port = await freePort()
  const { PATH } = process.env
  const env = { PATH, PORT: String(port), ...settings }
  const errors: string[] = []
  let child: ChildProcess | undefined
  /** Resolves when it listens; the log says so. */
  const start = () => new Promise<void>((resolve, reject) => {
    const started = spawn(process.execPath, [join(folder, `example/${example}/server.mjs`)], { env, stdio: ['ignore', 'pipe', 'inherit'] })
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

/** A page that asks for the name, and shows the room behind it. An error in its script fails the test. */
export async function openPage (
  t: Owner, context: BrowserContext, { url }: { url: string }, room: string, prepare?: (page: Page) => Promise<void>
): Promise<Page> {
  const page = await context.newPage()
  t.teardown(() => page.close())
  page.on('pageerror', (error) => t.fail('error on the page', { found: error.stack }))
  await prepare?.(page)
  await page.goto(`${url}/#/${room}`)
  return page
}

export async function enter (page: Page, name: string) {
  await page.getByLabel('Name', { exact: true }).fill(name)
  await page.getByRole('button', { name: 'Continue' }).click()
  await hasState(page, 'connected')
}

export async function write (page: Page, text: string) {
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.getByLabel('Message', { exact: true }).press('Enter')
}

export async function makeRoom (page: Page, title: string) {
  await page.getByLabel('Name of a room to create or join').fill(title)
  await page.keyboard.press('Enter')
  await hasTexts(page, '#room-name', [`# ${title}`])
}

export const MESSAGES = '#log ol:not([hidden]) .text'
const PEOPLE = '#people .name'

export function textsOf (page: Page, selector = MESSAGES): Promise<string[]> {
  return page.locator(selector).allTextContents()
}

/** Waits until the page shows exactly these messages, in this order. */
export async function shows (page: Page, texts: string[]) {
  await hasTexts(page, MESSAGES, texts)
}

export async function hasPeople (page: Page, names: string[]) {
  await hasTexts(page, PEOPLE, names)
  await hasTexts(page, '#people-panel .count', [String(names.length)])
}

export async function hasTexts (page: Page, selector: string, texts: string[]) {
  await waitFor(page, ({ selector, texts }) => {
    const found = Array.from(document.querySelectorAll(selector), element => element.textContent)
    return JSON.stringify(found) === JSON.stringify(texts)
  }, { selector, texts }, async () => `${await textsOf(page, selector)} instead of ${texts}`)
}

/** Waits for so many elements, or more. */
export async function hasCount (page: Page, selector: string, count: number) {
  const found = async () => `only ${await textsOf(page, selector)} at ${selector}`
  await waitFor(page, ({ selector, count }) => document.querySelectorAll(selector).length >= count, { selector, count }, found)
}

/** Waits until the server has taken every message that was written here. */
export async function isSent (page: Page) {
  const found = async () => `${await textsOf(page, '.pending .text')} not sent`
  await waitFor(page, () => document.querySelectorAll('.pending').length === 0, undefined, found)
}

/** Polls inside the page, which costs less than to ask the page again and again. */
export async function waitFor<Arg> (page: Page, condition: (arg: Arg) => boolean, arg: Arg, found: () => Promise<string>) {
  try {
    await page.waitForFunction(condition as (arg: unknown) => boolean, arg, { polling: 100, timeout: PATIENCE })
  } catch (cause) {
    throw new Error(await found(), { cause })
  }
}

export async function hasState (page: Page, state: string) {
  await hasCount(page, `#state[data-state=${state}]`, 1)
}
