import { readFileSync } from 'node:fs'
import t from 'tap'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')

/** The rows of the checklist: number, what holds, and tests or reasons to leave it out. */
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
  for (const { number, shownBy } of rows) {
    for (const entry of shownBy.filter(entry => !entry.startsWith('excluded: '))) {
      const [, file = '', name = ''] = /^`([\w/-]+\.test\.ts)`: (.+)$/.exec(entry) ?? []
      t.match(file, /./, `${number} names a test or says why it is excluded: ${entry}`)
      if (file !== '') t.ok(["'", '"', '`'].some(quote => read(`../${file}`).includes(`t.test(${quote}${name}${quote}`)), `${number}: ${entry}`)
    }
  }
})
