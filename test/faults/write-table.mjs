// `npm run faults`: runs all faults and writes docs/faults.md with what became of the publications.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'faults-'))
const FAULT_ROWS = join(folder, 'rows')
writeFileSync(FAULT_ROWS, '')
try {
  const { status } = spawnSync('npx', ['tap', '--disable-coverage', '--jobs=1', 'test/faults/*.test.ts'], {
    stdio: 'inherit', shell: true, env: { ...process.env, FAULT_ROWS }
  })
  const rows = readFileSync(FAULT_ROWS, 'utf8').split('\n').filter(line => line !== '').map(line => JSON.parse(line))
  rows.sort((a, b) => a.name < b.name ? -1 : 1)
  const table = rows.map(({ name, acked, delivered, told, lost, twice, disordered, falselyRecovered }) => {
    const cells = [name, acked, delivered, told, lost, twice, disordered, falselyRecovered]
    return `| ${cells.map(cell => typeof cell === 'number' ? cell.toLocaleString('en') : cell).join(' | ')} |`
  })
  const page = readFileSync('docs/faults.md', 'utf8')
  const [head, old = ''] = page.split('| fault |')
  const end = old.indexOf('\n\n')
  writeFileSync('docs/faults.md', [
    `${head}| fault | acked | delivered | told | lost | twice | out of order | falsely recovered |`,
    '|---|---:|---:|---:|---:|---:|---:|---:|',
    ...table
  ].join('\n') + (end === -1 ? '\n' : old.slice(end)))
  process.exitCode = status
} finally {
  rmSync(folder, { recursive: true })
}
