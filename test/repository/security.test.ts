import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { resolveOptions } from '../../lib/options/resolve.ts'

const page = readFileSync('SECURITY.md', 'utf8')
const rows = page.split('\n').filter(line => line.startsWith('| ')).map(line => line.slice(2, -2).split(' | '))
const number = (text: string) => Number(text.replaceAll(',', ''))

t.test('SECURITY.md has the limits that the sources have', async (t) => {
  let constants = 0
  for (const [limit = '', value = ''] of rows) {
    const [, name, file] = /^`(\w+)` in `([\w/.-]+)`$/.exec(limit) ?? []
    if (name === undefined || file === undefined) continue
    constants++
    t.ok(existsSync(file), file)
    const [, expression = ''] = new RegExp(`const ${name} = ([\\d_* ]+)$`, 'm').exec(readFileSync(file, 'utf8')) ?? []
    const actual = expression.replaceAll('_', '').split('*').reduce((product, factor) => product * Number(factor), 1)
    t.equal(number(value), actual, limit)
  }
  t.ok(constants > 10)
})

t.test('SECURITY.md has the defaults that the options have', async (t) => {
  const defaults = resolveOptions({}, {}) as unknown as Record<string, unknown>
  let options = 0
  for (const [limit = '', value = ''] of rows) {
    const [, path] = /^option `([\w.]+)`$/.exec(limit) ?? []
    if (path === undefined || value === 'of the container') continue
    options++
    const actual = path.split('.').reduce<unknown>((object, name) => (object as Record<string, unknown>)[name], defaults)
    const [max = '', timeWindow] = value.split(' in ')
    if (timeWindow === undefined) t.equal(actual, number(value), path)
    else t.strictSame(actual, { max: number(max), timeWindow: number(timeWindow.replace(' ms', '')) }, path)
  }
  t.ok(options > 5)
})
