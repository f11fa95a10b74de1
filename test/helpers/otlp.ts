import protobuf from 'protobufjs'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import type { Test } from 'tap'
import type { ExportedMetric, MetricShape } from './metric-shapes.ts'

// The part of opentelemetry-proto that metrics need (github.com/open-telemetry/opentelemetry-proto).
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceMetrics resource_metrics = 1; }
  message ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scope_metrics = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
  message ScopeMetrics { Scope scope = 1; repeated Metric metrics = 2; }
  message Scope { string name = 1; }
  message Metric { string name = 1; string description = 2; string unit = 3; oneof data { Numbers gauge = 5; Numbers sum = 7; Histograms histogram = 9; } }
  message Numbers { repeated NumberPoint points = 1; int32 temporality = 2; bool monotonic = 3; }
  message Histograms { repeated HistogramPoint points = 1; int32 temporality = 2; }
  message NumberPoint { double as_double = 4; sfixed64 as_int = 6; repeated KeyValue attributes = 7; }
  message HistogramPoint { fixed64 count = 4; double sum = 5; repeated double bounds = 7; repeated KeyValue attributes = 9; }
`, { keepCase: false })
const Request = root.lookupType('Request')

type Attributes = Record<string, unknown>

export interface OtlpPoint {
  attributes: Attributes
  /** Of a histogram: how many. */
  value: number
}

export interface OtlpMetric extends ExportedMetric {
  points: OtlpPoint[]
}

export interface OtlpRequest {
  path: string
  headers: IncomingHttpHeaders
  resource: Attributes
  metrics: OtlpMetric[]
}

export interface OtlpServer {
  /** http://127.0.0.1:port */
  readonly url: string
  /** What was taken or refused. */
  readonly requests: OtlpRequest[]
  /** HTTP status of the answers, or 'hang' for none. */
  status: number | 'hang'
  /** Of the next answers, before `status`. */
  statuses: number[]
  /** The last point of this metric that came, by the values of its attributes. */
  latest (name: string): Record<string, number>
}

/** A backend of metrics by OTLP over HTTP in Protobuf, such as a collector or Google's Telemetry API. */
export async function startOtlpServer (t: Test): Promise<OtlpServer> {
  const server = createServer(async (request, response) => {
    const body = await buffer(request)
    const status = otlp.statuses.shift() ?? otlp.status
    otlp.requests.push({ path: request.url!, headers: request.headers, ...decode(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body) })
    if (status === 'hang') return
    // With a time to wait that is longer than an export may take, so that it is tried once.
    response.writeHead(status, { 'content-type': 'application/x-protobuf', ...status >= 429 && { 'retry-after': '60' } })
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const otlp: OtlpServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    status: 200,
    statuses: [],
    latest (name) {
      const metric = otlp.requests.flatMap(({ metrics }) => metrics).findLast(metric => metric.name === name)
      return Object.fromEntries(metric?.points.map(({ attributes, value }) => [Object.values(attributes).join(' '), value]) ?? [])
    }
  }
  return otlp
}

function decode (bytes: Buffer): Pick<OtlpRequest, 'resource' | 'metrics'> {
  const message = Request.toObject(Request.decode(bytes), { longs: Number, defaults: false }) as any
  const [{ resource, scopeMetrics = [] } = {} as any] = message.resourceMetrics ?? []
  return { resource: attributesOf(resource?.attributes), metrics: scopeMetrics.flatMap(({ metrics }: any) => metrics.map(metricOf)) }
}

function metricOf ({ name, unit, gauge, sum, histogram }: any): OtlpMetric {
  const { points = [], monotonic = false } = gauge ?? sum ?? histogram
  const kind: MetricShape['kind'] = gauge ? 'Gauge' : histogram ? 'Histogram' : monotonic ? 'Counter' : 'UpDownCounter'
  return {
    name,
    unit,
    kind,
    points: points.map((point: any) => ({ attributes: attributesOf(point.attributes), value: point.count ?? point.asInt ?? point.asDouble ?? 0 })),
    ...histogram && { bounds: points[0]?.bounds }
  }
}

function attributesOf (pairs: any[] = []): Attributes {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]))
}
