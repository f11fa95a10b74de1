import { readFileSync } from 'node:fs'
import t from 'tap'
import { walkOfMessage } from '../helpers/walk.ts'

const MAX_FUNCTIONS = 20
const MAX_FILES = 12
/** In the table, but without a name for V8: a function that is a field of its class. */
const FIELDS = ['lib/backends/redis/feed.ts:receive']

/** The rows of CONTRIBUTING's table, as `file:name`. */
function table (): string[] {
  const [, section = ''] = readFileSync(new URL('../../CONTRIBUTING.md', import.meta.url), 'utf8').split('## Where a message goes\n')
  const rows = section.split('\n## ')[0]!.matchAll(/^\| \d+ \| `(?:\w+\.)?(#?\w+)` \| `([^`]+)` \|/gm)
  return Array.from(rows, ([, name, file]) => `${file}:${name}`)
}

t.test('a plain message passes few functions in few files, and CONTRIBUTING names them all', async (t) => {
  const walk = await walkOfMessage(t)
  const steps = table()
  const files = new Set(steps.map(step => step.split(':')[0]))
  t.comment(`${steps.length} functions in ${files.size} files`)
  t.strictSame(steps.filter(step => !FIELDS.includes(step)).toSorted(), walk)
  t.ok(steps.length <= MAX_FUNCTIONS, `${steps.length} functions`)
  t.ok(files.size <= MAX_FILES, `${files.size} files`)
})
