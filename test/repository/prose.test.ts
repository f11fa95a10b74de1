import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import t from 'tap'

const root = resolve(import.meta.dirname, '../..')
const FILES = ['CHANGELOG.md', 'CONTRIBUTING.md', 'RELEASING.md', 'docs/decisions.md', 'example/chat/README.md']
const MAX_LENGTH = 120

const read = (file: string) => readFileSync(join(root, file), 'utf8')

t.test('lines of prose fit beside code', async (t) => {
  for (const file of FILES) t.strictSame(read(file).split('\n').filter(line => line.length > MAX_LENGTH && !line.startsWith('|')), [], file)
})

t.test('links to files lead somewhere', async (t) => {
  for (const file of FILES) {
    const links = Array.from(read(file).matchAll(/\]\(([^)#\s]+)[^)]*\)/g), ([, link]) => link!).filter(link => !link.includes(':'))
    t.strictSame(links.filter(link => !existsSync(join(root, dirname(file), link))), [], file)
  }
})

t.test('each version of the changelog has what was added, changed and fixed, in this order', async (t) => {
  const [, ...versions] = read('CHANGELOG.md').split(/^## /m)
  t.match(versions.map(version => version.split('\n', 1)[0]), [/^Unreleased$/, /^0\.1\.0$/])
  for (const version of versions) {
    const kinds = Array.from(version.matchAll(/^### (.+)$/gm), ([, kind]) => kind)
    t.strictSame(kinds, ['Added', 'Changed', 'Fixed'].filter(kind => kinds.includes(kind)))
  }
})

t.test('each decision says what holds, why, and what was rejected', async (t) => {
  const [decisions = ''] = read('docs/decisions.md').split('\n## Smaller ones')
  const sections = decisions.split(/^### /m).slice(1)
  t.ok(sections.length > 10)
  for (const section of sections) {
    const parts = Array.from(section.matchAll(/^- \*\*(\w+)\*\*: /gm), ([, part]) => part)
    t.strictSame(parts, ['Decision', 'Reason', 'Rejected'], section.split('\n', 1)[0]!)
  }
})
