import protobuf from 'protobufjs'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders, RequestListener } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
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
  message Metric {
    string name = 1; string description = 2; string unit = 3;
    oneof data { Numbers gauge = 5; Numbers sum = 7; Histograms histogram = 9; }
  }
  message Numbers { repeated NumberPoint points = 1; int32 temporality = 2; bool monotonic = 3; }
  message Histograms { repeated HistogramPoint points = 1; int32 temporality = 2; }
  message NumberPoint { double as_double = 4; sfixed64 as_int = 6; repeated KeyValue attributes = 7; }
  message HistogramPoint { fixed64 count = 4; double sum = 5; repeated double bounds = 7; repeated KeyValue attributes = 9; }
`, { keepCase: false })
const Request = root.lookupType('Request')

type Attributes = Record<string, unknown>

// What the messages above are as objects.
interface KeyValue { key: string, value: Record<string, unknown> }
interface Point { attributes?: KeyValue[], asInt?: number, asDouble?: number, count?: number, bounds?: number[] }
interface Data { points?: Point[], monotonic?: boolean }
interface Metric { name: string, unit: string, gauge?: Data, sum?: Data, histogram?: Data }
interface ExportRequest {
  resourceMetrics?: Array<{ resource?: { attributes?: KeyValue[] }, scopeMetrics?: Array<{ metrics: Metric[] }> }>
}

export interface OtlpPoint {
  attributes: Attributes
  /** The count of a histogram. */
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
  readonly port: number
  /** Every request, accepted or refused. */
  readonly requests: OtlpRequest[]
  /** HTTP status of the answers, or 'hang' for no answer. */
  status: number | 'hang'
  /** HTTP statuses of the next answers; `status` follows. */
  statuses: number[]
  /** The values of a metric in the last request that has it, by the values of their attributes. */
  latest (name: string): Record<string, number>
}

/**
 * Starts a backend that takes metrics by OTLP over HTTP in Protobuf, as a collector and Google's Telemetry API do.
 * `tls`: key and certificate.
 */
export async function startOtlpServer (t: Test, tls?: { key: string, cert: string }): Promise<OtlpServer> {
  const answer: RequestListener = async (request, response) => {
    const body = await buffer(request)
    const status = otlp.statuses.shift() ?? otlp.status
    const bytes = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body
    otlp.requests.push({ path: request.url!, headers: request.headers, ...decode(bytes) })
    if (status === 'hang') return
    // The exporter has to wait for longer than an export may take, so it does not try again.
    response.writeHead(status, { 'content-type': 'application/x-protobuf', ...status >= 429 && { 'retry-after': '60' } })
    response.end()
  }
  const server = tls === undefined ? createServer(answer) : createSecureServer(tls, answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const otlp: OtlpServer = {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    port,
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
  const { resourceMetrics = [] }: ExportRequest = Request.toObject(Request.decode(bytes), { longs: Number, defaults: false })
  const [{ resource, scopeMetrics = [] } = {}] = resourceMetrics
  return { resource: attributesOf(resource?.attributes), metrics: scopeMetrics.flatMap(({ metrics }) => metrics.map(metricOf)) }
}

function metricOf ({ name, unit, gauge, sum, histogram }: Metric): OtlpMetric {
  const { points = [], monotonic = false } = gauge ?? sum ?? histogram ?? {}
  const kind: MetricShape['kind'] = gauge ? 'Gauge' : histogram ? 'Histogram' : monotonic ? 'Counter' : 'UpDownCounter'
  return {
    name,
    unit,
    kind,
    points: points.map(({ attributes, count, asInt, asDouble }) => {
      return { attributes: attributesOf(attributes), value: count ?? asInt ?? asDouble ?? 0 }
    }),
    ...histogram && { bounds: points[0]?.bounds ?? [] }
  }
}

function attributesOf (pairs: KeyValue[] = []): Attributes {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]))
}
