export interface Series {
  labels: Record<string, string>
  /** ms and value, in order of time. */
  samples: Array<[number, number]>
}

export interface Tree {
  name: string
  text: string
  children: Tree[]
}

export function parse (query: string): Tree

export class PromQL {
  constructor (series: Map<string, Series[]>, scale?: number)
  evaluate (query: string, time: number): Array<{ labels: Record<string, string>, value: number }>
  scaled (duration: string): number
}
