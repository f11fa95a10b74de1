import type { Payload } from '../../model/publication.ts'

/** Writes a payload as a field of a JSON object. What is binary becomes base64, and a field `encoding` says so. */
export function jsonField (name: string, { kind, payload }: Payload): string {
  if (kind === 'binary') return `"${name}":"${payload.toString('base64')}","encoding":"base64"`
  return `"${name}":${kind === 'text' ? JSON.stringify(payload.toString()) : payload.toString()}`
}
