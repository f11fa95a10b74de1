import { readFileSync } from 'node:fs'
import t from 'tap'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')

/** The rows of the checklist: the number, and the tests that show the point or the reasons to leave it out. */
function checklist (): Array<{ number: number, shownBy: string[] }> {
  const [, section = ''] = read('../../CONTRIBUTING.md').split('## Checklist for Google Cloud\n')
  const rows = Array.from(section.split('\n## ')[0]!.matchAll(/^\| (\d+) \| [^|]+ \| ([^|]+) \|$/gm))
  return rows.map(([, number, shownBy]) => ({ number: Number(number), shownBy: shownBy!.split('<br>') }))
}

t.test('every test that the checklist for Google Cloud names is there', async (t) => {
  const rows = checklist()
  t.equal(rows.length, 25)
  const numbers = rows.map(({ number }) => number)
  t.strictSame(numbers, Array.from(new Set(numbers)).toSorted((a, b) => a - b), 'each point once, in order')
  const shown = rows.flatMap(({ number, shownBy }) => shownBy.map(entry => ({ number, entry })))
  t.strictSame(shown.filter(({ entry }) => !entry.startsWith('excluded: ') && !hasTest(entry)), [])
})

/** Whether the entry names a file of tests and a test in it. */
function hasTest (entry: string): boolean {
  const [, file, name] = /^`([\w/-]+\.test\.ts)`: (.+)$/.exec(entry) ?? []
  return file !== undefined && ["'", '"', '`'].some(quote => read(`../${file}`).includes(`t.test(${quote}${name}${quote}`))
}
