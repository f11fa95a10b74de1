import { readFileSync } from 'node:fs'
import t from 'tap'
import { noRules } from '../../lib/model/channel-rules.ts'
import { clientErrors } from '../../lib/model/error-replies.ts'
import { unsubscribeCodes } from '../../lib/model/unsubscribe-codes.ts'
import { closeCodes, sdkCloseCodes, sdkOnlyCloseCodes } from '../../lib/model/close-codes.ts'
import type { CloseCode } from '../../lib/model/close-codes.ts'
import * as errors from '../../lib/model/errors.ts'
import { commandsOffCloudRun, hintCommands } from '../../lib/observability/hints/commands.ts'
import { logEvents } from '../../lib/observability/log-events.ts'
import { metricNames } from '../../lib/observability/instruments.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { processMetricNames } from '../../lib/observability/otel/process-metrics.ts'

/** The rows of the first table below a heading of a page in docs/reference, as lists of cells. */
function table (page: string, heading: string): string[][] {
  const text = readFileSync(new URL(`../../docs/reference/${page}.md`, import.meta.url), 'utf8')
  const [, section = ''] = text.split(new RegExp(`^#+ ${heading}$`, 'm'))
  const [, rows = ''] = section.split(/^\|(?:---\|)+$/m)
  return rows.trim().split('\n\n', 1)[0]!.split('\n').map(row => row.slice(1, -1).split('|').map(cell => cell.trim().replaceAll('`', '')))
}

const first = (rows: string[][]) => rows.map(([cell]) => cell)

/** The rows of a table of close codes. */
function closeRows (heading: string) {
  return table('codes', heading).map(([code, reason, cause, again = '']) => {
    return { code: Number(code), reason, cause, reconnect: again.startsWith('yes') }
  })
}

function byCode (codes: readonly CloseCode[]) {
  return codes.map(({ code, reason, cause, reconnect }) => ({ code, reason, cause, reconnect })).toSorted((a, b) => a.code - b.code)
}

t.test('the reference lists every option and no other', async (t) => {
  t.strictSame(first(table('options', 'Options')), Object.keys(resolveOptions({}, {})))
})

t.test('the reference gives the defaults of plain options', async (t) => {
  const defaults = resolveOptions({}, {})
  const numbers = new Map(Object.entries(defaults).filter(([, value]) => typeof value === 'number'))
  const given = table('options', 'Options').filter(([name = '', text = '']) => numbers.has(name) && /^[\d_]+$/.test(text))
  t.ok(given.length > 0)
  const defaultsGiven = given.map(([name, text = '']) => [name, Number(text.replaceAll('_', ''))])
  t.strictSame(defaultsGiven, given.map(([name = '']) => [name, numbers.get(name)]))
  const textOf = (option: string) => table('options', 'Options').find(([name]) => name === option)?.[1]
  t.equal(textOf('keyPrefix'), `'${defaults.keyPrefix}'`)
  t.equal(textOf('path'), `'${defaults.path}'`)
})

t.test('the reference lists every error code and no other', async (t) => {
  const codes = Object.values(errors).filter(value => typeof value === 'function').map(Coded => new (Coded as new () => { code: string })().code)
  const listed = first(table('errors', 'Errors'))
  t.strictSame(listed, codes.toSorted((a, b) => listed.indexOf(a) - listed.indexOf(b)))
  t.equal(new Set(codes).size, codes.length)
  t.strictSame(codes.filter(code => !/^FST_CRWS_[A-Z_]+$/.test(code)), [])
})

t.test('the reference lists every close code with its reason, its cause and what to do', async (t) => {
  t.strictSame(closeRows('Close codes on the plain route'), byCode(Object.values(closeCodes)))
})

t.test('the reference lists every close code of the SDK route, and from 3000 the code alone says whether an SDK comes back', async (t) => {
  const all = Object.values({ ...sdkCloseCodes, ...sdkOnlyCloseCodes })
  const codes = byCode(Array.from(new Map(all.map(close => [close.code, close])).values()))
  t.strictSame(closeRows('Close codes for SDKs'), codes)
  t.strictSame(codes.filter(({ code, reconnect }) => code >= 3000 && reconnect !== (code < 3500)), [])
})

t.test('the reference lists every error reply and every unsubscribe code', async (t) => {
  const replies = table('codes', 'Error replies')
    .map(([code, message, again]) => ({ code: Number(code), message, ...(again === 'yes' && { temporary: true }) }))
  t.strictSame(replies, Object.values(clientErrors))
  t.strictSame(table('codes', 'Unsubscribe codes').map(([code, reason]) => ({ code: Number(code), reason })), Object.values(unsubscribeCodes))
})

t.test('the reference lists every channel rule and no other', async (t) => {
  t.strictSame(first(table('options', 'Rules')).toSorted(), Object.keys(noRules).toSorted())
})

t.test('reasons of close codes fit into a frame, and are never empty and never JSON, which would mislead the JavaScript SDK', async (t) => {
  const isJson = (text: string) => {
    try {
      JSON.parse(text)
      return true
    } catch {
      return false
    }
  }
  const reasons = Object.values<CloseCode>({ ...closeCodes, ...sdkCloseCodes, ...sdkOnlyCloseCodes }).map(({ reason }) => reason)
  t.strictSame(reasons.filter(reason => reason === '' || Buffer.byteLength(reason) > 123 || isJson(reason)), [])
})

t.test('the reference lists every metric and no other', async (t) => {
  t.strictSame(first(table('metrics', 'Metrics')), [...Object.values(metricNames), ...Object.values(processMetricNames)])
})

t.test('the reference lists every log entry with its level and no other', async (t) => {
  t.strictSame(table('log-entries', 'Log entries').map(([event, level]) => [event, level]), Object.entries(logEvents))
})

t.test('the reference lists every hint with its command and no other', async (t) => {
  t.strictSame(table('hints', 'Hints').map(([hint, , command]) => [hint, command]), Object.entries(hintCommands))
  const columns = ['kubernetes', 'app_engine', 'elsewhere'] as const
  const offCloudRun = Object.entries(commandsOffCloudRun).map(([hint, commands]) => [hint, ...columns.map(column => commands[column])])
  t.strictSame(table('hints', 'Off Cloud Run'), offCloudRun)
})
