import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))

/** A fenced code block of a page. */
export interface Block {
  page: string
  /** Of its first line of code, counted from 1. */
  line: number
  language: string
  /** What the info string says after `run=`. */
  name: string | undefined
  /** Code of the comment `<!-- given: … -->` straight before it: what the block needs and a reader does not. */
  given: string
  code: string
}

/** A line of a page outside of code blocks and HTML comments. */
export interface Line {
  number: number
  text: string
}

export interface Page {
  blocks: Block[]
  lines: Line[]
}

const FENCE = /^(\s*)(`{3,}|~{3,})\s*(.*)$/
const files = new Map<string, Page>()

/** The pages of docs/, relative to the repository. */
export function docsPages (): string[] {
  const names = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
  return names.filter(name => name.endsWith('.md')).map(name => `docs/${name}`).toSorted()
}

/** The pages for users of the package. */
export function userPages (): string[] {
  const examples = readdirSync(join(root, 'example')).map(name => `example/${name}/README.md`).filter(page => existsSync(join(root, page)))
  return ['README.md', 'SECURITY.md', ...docsPages(), ...examples]
}

/** All pages of the repository. */
export function allPages (): string[] {
  const others = ['CHANGELOG.md', 'CONTRIBUTING.md', 'RELEASING.md', 'bench/README.md'].filter(page => existsSync(join(root, page)))
  return [...userPages(), ...others]
}

/** A page, taken apart into its code blocks and its other lines. */
export function readPage (page: string): Page {
  const known = files.get(page)
  if (known) return known
  const parsed = parse(page, readFileSync(join(root, page), 'utf8'))
  files.set(page, parsed)
  return parsed
}

function parse (page: string, text: string): Page {
  const lines: Line[] = []
  const blocks: Block[] = []
  const all = text.split('\n')
  let given = ''
  for (let i = 0; i < all.length; i++) {
    const line = all[i]!
    const [, indent = '', fence, info = ''] = FENCE.exec(line) ?? []
    if (fence) {
      const end = all.findIndex((other, j) => j > i && other.trim() === fence)
      if (end < 0) throw new Error(`${page}:${i + 1}: this code block has no end`)
      const code = all.slice(i + 1, end).map(inner => inner.startsWith(indent) ? inner.slice(indent.length) : inner).join('\n')
      const [language = ''] = info.split(' ')
      blocks.push({ page, line: i + 2, language, name: /(?:^|\s)run=(\S+)/.exec(info)?.[1], given, code })
      given = ''
      i = end
    } else if (line.startsWith('<!--')) {
      const end = all.findIndex((other, j) => j >= i && other.includes('-->'))
      if (end < 0) throw new Error(`${page}:${i + 1}: this comment has no end`)
      given = /^<!-- given:([^]*)-->/.exec(all.slice(i, end + 1).join('\n'))?.[1]!.trim() ?? ''
      i = end
    } else {
      if (line.trim() !== '') given = ''
      lines.push({ number: i + 1, text: line })
    }
  }
  return { blocks, lines }
}

/** The anchors of a page, made by GitHub's rules from its headings, and those that it gives itself (`<a id="…">`). */
export function anchors (page: string): string[] {
  const { lines } = readPage(page)
  const headings = lines.map(({ text }) => /^#{1,6} (.*)$/.exec(text)?.[1]).filter(heading => heading !== undefined)
  const slugs: string[] = []
  for (const heading of headings) {
    const slug = slugOf(heading)
    let unique = slug
    for (let n = 1; slugs.includes(unique); n++) unique = `${slug}-${n}`
    slugs.push(unique)
  }
  return [...slugs, ...lines.flatMap(({ text }) => Array.from(text.matchAll(/ (?:id|name)="([^"]+)"/g), ([, id]) => id!))]
}

function slugOf (heading: string): string {
  const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/<[^>]*>/g, '').trim()
  return text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '').replaceAll(' ', '-')
}

/** The relative targets of a line's links and pictures. */
export function linksOf (text: string): string[] {
  const withoutCode = text.replace(/`[^`]*`/g, '')
  const targets = [
    ...withoutCode.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g),
    ...withoutCode.matchAll(/^\[[^\]]+\]:\s+(\S+)/g),
    ...withoutCode.matchAll(/\s(?:href|src|srcset)="([^"\s]+)"/g)
  ]
  return targets.map(([, target]) => target!).filter(target => !/^[a-z][a-z+.-]*:/i.test(target))
}

/** The cells of a line of a table. */
export function cellsOf (text: string): string[] {
  return text.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map(cell => cell.trim())
}
