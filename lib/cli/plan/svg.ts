/** Text between tags and in attributes. */
export const escape = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

type Attributes = Readonly<Record<string, string | number>>

export function element (name: string, attributes: Attributes, content = ''): string {
  const text = Object.entries(attributes).map(([key, value]) => ` ${key}="${escape(String(value))}"`).join('')
  return content === '' ? `<${name}${text}/>` : `<${name}${text}>${content}</${name}>`
}

export const label = (x: number, y: number, text: string, attributes: Attributes = {}) => element('text', { x, y, ...attributes }, escape(text))

export const line = (x1: number, y1: number, x2: number, y2: number, attributes: Attributes) => element('line', { x1, y1, x2, y2, ...attributes })

/** Colours of a light page and of a dark one; both have a background of their own. */
export const style = `<style>
svg { font: 13px system-ui, sans-serif; --page: #fff; --ink: #1f2328; --quiet: #59636e; --grid: #d9dee3;
  --blue: #0b69b0; --green: #1a7f4b; --orange: #b35900; --teal: #0b7b83;
  --purple: #7d4bc3; --grey: #7b8794; --gold: #d8a800; --red: #b3261e; --olive: #758c1b; --pink: #d0509c; --brown: #6b4a2f; --slate: #3d4a63 }
@media (prefers-color-scheme: dark) {
  svg { --page: #14181d; --ink: #e6edf3; --quiet: #9aa7b4; --grid: #343c45;
    --blue: #4ea3e6; --green: #4cc38a; --orange: #f0883e; --teal: #39c5cf;
    --purple: #b392f0; --grey: #8b98a5; --gold: #f2d24b; --red: #e5534b; --olive: #a5b84a; --pink: #f778ba; --brown: #b08968; --slate: #6b7f9e }
}
text { fill: var(--ink) } .quiet { fill: var(--quiet) } .title { font-size: 17px; font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
</style>`
