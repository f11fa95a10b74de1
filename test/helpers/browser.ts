import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import type { Browser, BrowserContext } from 'playwright-core'
import type { Test } from 'tap'
import { root } from './markdown.ts'
import { findProgram } from './programs.js'

/** Chromium, until the test ends. */
export async function launchBrowser (t: Pick<Test, 'teardown'>): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: findProgram('chromium')!,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'
    ]
  })
  t.teardown(() => browser.close())
  return browser
}

/** A context for pages of the documentation. The SDK that they load comes from the packages of this repository. */
export async function contextForPages (t: Pick<Test, 'teardown'>): Promise<BrowserContext> {
  const context = await (await launchBrowser(t)).newContext()
  const sdk = readFileSync(join(root, 'node_modules/centrifuge/dist/centrifuge.js'), 'utf8')
  await context.route('https://unpkg.com/**', route => route.fulfill({ contentType: 'text/javascript', body: sdk }))
  return context
}
