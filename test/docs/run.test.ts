import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { blocksOf } from '../helpers/docs.ts'
import { allPages, readPage, root } from '../helpers/markdown.ts'

const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts'))
const used = tests.flatMap(test => blocksOf(readFileSync(join(root, 'test', test), 'utf8')))
const named = allPages().flatMap(page => readPage(page).blocks.filter(({ name }) => name !== undefined).map(({ name }) => `${page} ${name}`))

t.test('every block that is said to run is run by a test', async (t) => {
  t.strictSame(named.filter(block => !used.includes(block)), [], "call importBlock(t, 'page', 'name'), startBlock or block")
})

t.test('no page gives a name to two blocks', async (t) => {
  t.strictSame(named.filter((block, i) => named.indexOf(block) !== i), [])
})
