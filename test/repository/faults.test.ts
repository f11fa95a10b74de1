import { readdir, readFile } from 'node:fs/promises'
import t from 'tap'

t.test('docs/faults.md has a row for every fault, in which no promise is broken', async (t) => {
  const page = await readFile('docs/faults.md', 'utf8')
  const rows = page.split('\n').filter(line => line.startsWith('| ')).slice(1).map(line => line.split(' | ').map(cell => cell.replace(/^\| | \|$/g, '')))
  const names = rows.map(([name]) => name)
  const files = (await readdir('test/faults')).filter(file => file.endsWith('.test.ts'))
  const sources = await Promise.all(files.map(file => readFile(`test/faults/${file}`, 'utf8')))
  const faults = sources.filter(source => source.includes('testFault(')).flatMap(source => Array.from(source.matchAll(/^(?:testFault\(| {2}\[)'([^']+)'/gm), ([, name]) => name!))
  t.strictSame(names, faults.toSorted(), 'npm run faults writes them')
  for (const [name, acked, delivered, , ...violations] of rows) {
    t.ok(Number(delivered!.replace(',', '')) >= Number(acked!.replace(',', '')), name!)
    t.strictSame(violations, ['0', '0', '0', '0'], name!)
  }
})
