import Fastify from 'fastify'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { buildPackage } from '../helpers/built-package.ts'

const folder = t.testdir()
const dist = join(folder, 'dist')
await buildPackage(folder)

t.test('the built package has the files of the page in its code, so it may be bundled again', async (t) => {
  const { default: cloudRunWebSocket } = await import(pathToFileURL(join(dist, 'index.js')).href)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { redis: false, shutdown: false, inspectPath: '/inspect', inspect: { authorize: () => 'ada' } })
  const page = resolve(import.meta.dirname, '../../lib/http/inspector/page')
  for (const name of readdirSync(page)) {
    const source = readFileSync(join(page, name), 'utf8')
    const { body } = await app.inject(name === 'index.html' ? '/inspect' : `/inspect/${name}`)
    t.equal(body, source.replaceAll('{{base}}', './inspect'), name)
  }
  t.strictSame(readdirSync(dist).filter(name => !name.endsWith('.js')), [])
})

t.test('an app without the page does not load it', async (t) => {
  const loaded = new Set<string>()
  const load = (name: string) => {
    if (loaded.has(name)) return
    loaded.add(name)
    const code = readFileSync(join(dist, name), 'utf8')
    for (const [, imported] of code.matchAll(/(?:from|^import) "\.\/([^"]+)"/gm)) load(imported!)
  }
  load('index.js')
  t.ok(loaded.size > 1)
  const withPage = readdirSync(dist).filter(name => readFileSync(join(dist, name), 'utf8').includes('confirm-title'))
  t.equal(withPage.length, 1)
  t.notOk(loaded.has(withPage[0]!))
  t.strictSame(Array.from(loaded).filter(name => /refuseCrossSite|publicationsOf/.test(readFileSync(join(dist, name), 'utf8'))), [])
})
