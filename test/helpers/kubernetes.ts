import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'

/** An object of Kubernetes, as a manifest has it. */
export interface KubernetesObject {
  apiVersion: string
  kind: string
  metadata: { name: string, namespace?: string, labels?: Record<string, string>, annotations?: Record<string, string> }
  [field: string]: any
}

/** A class of kubernetes-models. */
export type Model = new (data: any) => { validate (): void }

export function parseObjects (text: string): KubernetesObject[] {
  return parseAllDocuments(text, { strict: true, uniqueKeys: true }).map(document => {
    const [error] = document.errors
    if (error) throw error
    return document.toJS() as KubernetesObject
  })
}

export function readObjects (path: string): KubernetesObject[] {
  return parseObjects(readFileSync(path, 'utf8'))
}

/**
 * What the API server would refuse: values that the schema does not allow, and fields that it does not know. The models
 * know nothing of the latter: those are the fields that their validation never looks at.
 */
export function problemsOf (model: Model, object: KubernetesObject): string[] {
  const unread: Array<{ path: string, fields: Set<string> }> = []
  const problems: string[] = []
  try {
    watch(new model(object), '', unread).validate() // eslint-disable-line new-cap
  } catch (error) {
    problems.push((error as Error).message)
  }
  return [...problems, ...unread.flatMap(({ path, fields }) => Array.from(fields, field => `unknown field ${path}${field}`))]
}

function watch<T> (value: T, path: string, unread: Array<{ path: string, fields: Set<string> }>): T {
  if (typeof value !== 'object' || value === null) return value
  const fields = new Set(Array.isArray(value) ? [] : Object.keys(value))
  unread.push({ path, fields })
  const children = new Map<string | symbol, unknown>()
  return new Proxy(value, {
    get (target, name) {
      fields.delete(String(name))
      const child = Reflect.get(target, name)
      if (!Object.hasOwn(target, name)) return child
      if (!children.has(name)) children.set(name, watch(child, `${path}${String(name)}.`, unread))
      return children.get(name)
    }
  })
}
