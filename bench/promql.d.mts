export interface Series {
  labels: Record<string, string>
  /** ms, in order; with the value of each. */
  times: readonly number[]
  values: readonly number[]
  /** ms: when each can be seen. As `times` unless given. */
  arrivals?: readonly number[]
  /** A sample is what was added since the one before it. */
  isDelta?: boolean
}

export interface Tree {
  name: string
  text: string
  children: Tree[]
}

export function parse (query: string): Tree

/** The metric of a selector, and its matchers. */
export function partsOf (selector: Tree): [metric: string | undefined, matchers: Tree[]]

/** ms */
export function durationOf (text: string): number

export class PromQL {
  constructor (series: Map<string, Series[]>)
  evaluate (query: string, time: number, interval?: string): Array<{ labels: Record<string, string>, value: number }>
}
