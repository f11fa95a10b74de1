import type { PushMetricExporter } from '@opentelemetry/sdk-metrics'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { exportFailure } from './telemetry-report.ts'
import type { TelemetryReport } from './telemetry-report.ts'

const RESPONSES = 'http.client.response.finish'

/** The same exporter, whose results are reported. */
export function reported (exporter: PushMetricExporter, url: string, google: boolean, report: TelemetryReport): PushMetricExporter {
  const { host, pathname, search } = new URL(url)
  // An exporter that has given up does not say with which status it was refused.
  let status: number | undefined
  const answered = (message: unknown): void => {
    const { request, response } = message as { request: ClientRequest, response: IncomingMessage }
    if (request.path === pathname + search && request.getHeader('host') === host) status = response.statusCode
  }
  return {
    export (data, done) {
      status = undefined
      subscribe(RESPONSES, answered)
      exporter.export(data, result => {
        unsubscribe(RESPONSES, answered)
        if (result.code === 0) report.arrived()
        else report.failed(exportFailure(result.error, status, url, google))
        done(result)
      })
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
    selectAggregation: type => exporter.selectAggregation!(type),
    selectAggregationTemporality: type => exporter.selectAggregationTemporality!(type)
  }
}
