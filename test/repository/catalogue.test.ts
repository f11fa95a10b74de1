import { readFileSync } from 'node:fs'
import t from 'tap'
import { noRules } from '../../lib/model/channel-rules.ts'
import { clientErrors, unsubscribeCodes } from '../../lib/protocols/centrifugal/errors.ts'
import { closeCodes, sdkCloseCodes, sdkOnlyCloseCodes } from '../../lib/model/close-codes.ts'
import * as errors from '../../lib/model/errors.ts'
import { hintCommands } from '../../lib/observability/hints/hints.ts'
import { logEvents } from '../../lib/observability/logs.ts'
import { metricNames } from '../../lib/observability/instruments.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { processMetricNames } from '../../lib/observability/otel/process-metrics.ts'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')

/** The rows of the first table below a heading, as lists of cells. */
function table (heading: string): string[][] {
  const [, section = ''] = readme.split(new RegExp(`^#+ ${heading}$`, 'm'))
  const [, rows = ''] = section.split(/^\|(?:---\|)+$/m)
  return rows.trim().split('\n\n', 1)[0]!.split('\n').map(row => row.slice(1, -1).split('|').map(cell => cell.trim().replaceAll('`', '')))
}

const first = (rows: string[][]) => rows.map(([cell]) => cell)

t.test('the README lists every option and no other', async (t) => {
  t.strictSame(first(table('Options')), Object.keys(resolveOptions({}, {})))
})

t.test('the README gives the defaults of plain options', async (t) => {
  const defaults = resolveOptions({}, {}) as unknown as Record<string, unknown>
  for (const [name = '', text = ''] of table('Options')) {
    const value = defaults[name]
    if (typeof value !== 'number' || !/^[\d_]+$/.test(text)) continue
    t.equal(Number(text.replaceAll('_', '')), value, name)
  }
  t.equal(table('Options').find(([name]) => name === 'prefix')?.[1], `'${defaults.prefix}'`)
  t.equal(table('Options').find(([name]) => name === 'path')?.[1], `'${defaults.path}'`)
})

t.test('the README lists every error code and no other', async (t) => {
  const codes = Object.values(errors).map(Coded => new (Coded as unknown as new () => { code: string })().code)
  t.strictSame(first(table('Errors')), codes.toSorted((a, b) => readme.indexOf(`\`${a}\` |`) - readme.indexOf(`\`${b}\` |`)))
  t.equal(new Set(codes).size, codes.length)
  for (const code of codes) t.match(code, /^FST_CRWS_[A-Z_]+$/)
})

t.test('the README lists every close code with its reason, its cause and what to do', async (t) => {
  const rows = table('Close codes on the plain route').map(([code, reason, cause, again]) => ({ code: Number(code), reason, cause, reconnect: again?.startsWith('yes') }))
  t.strictSame(rows, Object.values(closeCodes).toSorted((a, b) => a.code - b.code).map(({ code, reason, cause, reconnect }) => ({ code, reason, cause, reconnect })))
})

t.test('the README lists every close code of the SDK route, and the code alone says whether an SDK comes back', async (t) => {
  const rows = table('Close codes for SDKs').map(([code, reason, cause, again]) => ({ code: Number(code), reason, cause, reconnect: again === 'yes' }))
  const codes = new Map(Object.values({ ...sdkCloseCodes, ...sdkOnlyCloseCodes }).map(close => [close.code, close]))
  t.strictSame(rows, Array.from(codes.values()).toSorted((a, b) => a.code - b.code).map(({ code, reason, cause, reconnect }) => ({ code, reason, cause, reconnect })))
  for (const { code, reconnect } of codes.values()) {
    if (code >= 3000) t.equal(reconnect, code < 3500, String(code))
  }
})

t.test('the README lists every error reply and every unsubscribe code', async (t) => {
  t.strictSame(table('Error replies').map(([code, message, again]) => ({ code: Number(code), message, ...(again === 'yes' && { temporary: true }) })), Object.values(clientErrors))
  t.strictSame(table('Unsubscribe codes').map(([code, reason]) => ({ code: Number(code), reason })), Object.values(unsubscribeCodes))
})

t.test('the README lists every channel rule and no other', async (t) => {
  t.strictSame(first(table('Rules')).toSorted(), Object.keys(noRules).toSorted())
})

t.test('reasons of close codes are never empty and never JSON, which would mislead the JavaScript SDK', async (t) => {
  for (const { reason } of Object.values({ ...closeCodes, ...sdkCloseCodes, ...sdkOnlyCloseCodes })) {
    t.ok(reason.length > 0 && Buffer.byteLength(reason) <= 123, reason)
    t.throws(() => JSON.parse(reason))
  }
})

t.test('the README lists every metric and no other', async (t) => {
  t.strictSame(first(table('Metrics')), [...Object.values(metricNames), ...Object.values(processMetricNames)])
})

t.test('the README lists every log entry with its level and no other', async (t) => {
  t.strictSame(table('Log entries').map(([event, level]) => [event, level]), Object.entries(logEvents))
})

t.test('the README lists every hint with its command and no other', async (t) => {
  t.strictSame(table('Hints').map(([hint, , command]) => [hint, command]), Object.entries(hintCommands))
})
