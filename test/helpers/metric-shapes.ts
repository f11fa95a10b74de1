import type { MetricData } from '@opentelemetry/sdk-metrics'

/** Properties of a metric that do not depend on its values. */
export interface MetricShape {
  kind: 'Counter' | 'UpDownCounter' | 'Gauge' | 'Histogram'
  unit: string
  attributes: string[]
  bounds?: number[]
}

/** A metric as it was exported. */
export interface ExportedMetric extends Pick<MetricShape, 'kind' | 'unit' | 'bounds'> {
  name: string
  points: Array<{ attributes: object }>
}

/** The form of fixtures/metrics.json. Attributes are those of all points, so a metric may be listed more than once. */
export function shapesOf (metrics: Iterable<ExportedMetric>): Record<string, MetricShape> {
  const shapes: Record<string, MetricShape> = {}
  for (const { name, kind, unit, points, bounds } of metrics) {
    if (points.length === 0) continue
    const attributes = new Set([...shapes[name]?.attributes ?? [], ...points.flatMap(point => Object.keys(point.attributes))])
    shapes[name] = { kind, unit, attributes: [...attributes].sort(), ...(bounds !== undefined && { bounds }) }
  }
  return shapes
}

/** Converts what an in-memory exporter holds, of any version of the SDK. */
export function exportedMetric (data: MetricData): ExportedMetric {
  const { descriptor: { name, unit }, dataPoints } = data
  const { buckets } = (dataPoints[0]?.value ?? {}) as { buckets?: { boundaries: number[] } }
  const { isMonotonic } = data as { isMonotonic?: boolean }
  const points = { name, unit, points: dataPoints }
  if (buckets !== undefined) return { ...points, kind: 'Histogram', bounds: buckets.boundaries }
  return { ...points, kind: isMonotonic === undefined ? 'Gauge' : isMonotonic ? 'Counter' : 'UpDownCounter' }
}
