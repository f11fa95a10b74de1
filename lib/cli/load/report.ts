import type { LoadOptions } from './options.ts'
import type { OpenSample } from './open-samples.ts'
import type { Percentiles } from './latency.ts'
import type { LoadRun } from './run.ts'

/** Share of the clients that have to connect. */
const MIN_OPENED = 0.99
/** Milliseconds by which this process may be late. Beyond them its latencies are its own. */
const MAX_LATENESS = 50

type Reasons = Record<string, number>

/** What a run has shown. Times are in milliseconds. */
export interface Report {
  readonly url: string
  readonly protocol: LoadOptions['protocol']
  readonly startedAt: string
  readonly seconds: number
  readonly seed: number
  readonly interrupted: boolean
  readonly ok: boolean
  /** Why it is not. */
  readonly problems: readonly string[]
  readonly connections: {
    readonly asked: number,
    readonly opened: number,
    readonly gone: number,
    readonly reconnects: number
    readonly refused: Reasons,
    readonly failed: Reasons,
    readonly closed: Reasons
    readonly connectTime: Percentiles,
    readonly awayTime: Percentiles,
    readonly open: readonly OpenSample[]
  }
  readonly subscriptions: {
    readonly asked: number, readonly recovered: number, readonly unrecovered: number, readonly errors: Reasons, readonly ended: Reasons
  }
  readonly publications: {
    readonly perSecond: number,
    readonly sent: number,
    readonly acknowledged: number,
    readonly unanswered: number,
    readonly unsent: number
    readonly errors: Reasons
  }
  readonly deliveries: {
    readonly expected: number,
    readonly received: number,
    readonly lost: number,
    readonly duplicated: number,
    readonly outOfOrder: number
    readonly wrongOffsets: number,
    readonly foreign: number,
    readonly latency: Percentiles,
    readonly recoveredLatency: Percentiles
  }
  readonly bytes: { readonly sent: number, readonly received: number }
  /** This process: by how much its timers were late. */
  readonly generator: { readonly late: Percentiles, readonly saturated: boolean }
}

/** Sums up a run that has ended. */
export function reportOf (run: LoadRun): Report {
  const { tally, options, schedule } = run
  const { lost } = run
  const late = schedule.lateness.percentiles
  const report = {
    url: options.url,
    protocol: options.protocol,
    startedAt: run.startedAt.toISOString(),
    seconds: Math.round((Date.now() - run.startedAt.getTime()) / 1_000),
    seed: options.seed,
    interrupted: run.stops > 0,
    connections: {
      asked: run.stops > 0 ? run.started : options.connections,
      opened: tally.opened,
      gone: tally.gone,
      reconnects: tally.reconnects,
      refused: tally.refused.toJSON(),
      failed: tally.failed.toJSON(),
      closed: tally.closed.toJSON(),
      connectTime: tally.connectTime.percentiles,
      awayTime: tally.awayTime.percentiles,
      open: run.samples.toJSON()
    },
    subscriptions: {
      asked: options.protocol === 'sdk' ? run.receivers.length : 0,
      recovered: tally.recovered,
      unrecovered: tally.unrecovered,
      errors: tally.subscribeErrors.toJSON(),
      ended: tally.unsubscribed.toJSON()
    },
    publications: {
      perSecond: tally.sent === 0 ? 0 : Math.round(tally.sent / run.traffic * 10_000) / 10,
      sent: tally.sent,
      acknowledged: tally.acknowledged,
      unanswered: tally.unanswered,
      unsent: tally.unsent,
      errors: tally.publishErrors.toJSON()
    },
    deliveries: {
      expected: tally.received + lost,
      received: tally.received,
      lost,
      duplicated: tally.duplicated,
      outOfOrder: tally.outOfOrder,
      wrongOffsets: tally.wrongOffsets,
      foreign: tally.foreign,
      latency: tally.latency.percentiles,
      recoveredLatency: tally.recoveredLatency.percentiles
    },
    bytes: { sent: tally.bytesSent, received: tally.bytesReceived },
    generator: { late, saturated: (late.p99 ?? 0) > MAX_LATENESS }
  }
  const problems = problemsOf(report, options)
  return { ...report, ok: problems.length === 0, problems }
}

function problemsOf ({ interrupted, connections, subscriptions, publications, deliveries }: Omit<Report, 'ok' | 'problems'>, options: LoadOptions): string[] {
  const { lost, duplicated, outOfOrder, wrongOffsets, received, latency: { p99 } } = deliveries
  const problems: Array<[boolean, string]> = [
    [connections.opened < connections.asked * MIN_OPENED, `${connections.asked - connections.opened} of ${connections.asked} clients never connected`],
    [connections.gone > 0, `${connections.gone} clients were told not to reconnect`],
    [isAny(subscriptions.errors), 'subscriptions were refused: does the option channels have the namespace, with subscribe: true?'],
    [isAny(publications.errors), 'publications were refused: does the namespace have publish: true, and do the limits allow the rate?'],
    [options.publish > 0 && publications.sent === 0 && !interrupted, 'nothing was published'],
    [publications.sent > 0 && received === 0, options.protocol === 'plain'
      ? 'nothing came back: onMessage has to send each message back, or publish it'
      : 'nothing was delivered'],
    [lost > options.maxLost, `${lost} deliveries were lost`],
    [duplicated > 0, `${duplicated} deliveries were duplicated`],
    [outOfOrder > 0, `${outOfOrder} deliveries were out of order`],
    [wrongOffsets > 0, `${wrongOffsets} offsets did not follow the previous one`],
    [p99 !== undefined && options.maxP99 !== undefined && p99 > options.maxP99, `the 99th percentile of latency is ${p99} ms, above ${options.maxP99} ms`]
  ]
  return problems.filter(([holds]) => holds).map(([, text]) => text)
}

function isAny (reasons: Reasons): boolean {
  return Object.keys(reasons).length > 0
}
