/**
 * The query box: a plain textarea, so that selection, undo, touch keyboards and screen readers work as everywhere,
 * over a painted copy of its text. Suggestions open below the word being typed.
 */
import { labelNames, labelValues } from './api.ts';
import { findPlace, type Place, rank } from './complete.ts';
import { element, find } from './dom.ts';
import { metricsOf, paint } from './paint.ts';
import { readRecent } from './recent.ts';
import { AGGREGATIONS, COMMON, DURATIONS, FUNCTIONS, KEYWORDS, type Word } from './vocabulary.ts';

interface Suggestion {
  /** What is put in place of the word. */
  readonly text: string;
  readonly kind: 'metric' | 'function' | 'aggregation' | 'keyword' | 'label' | 'value' | 'duration' | 'recent';
  readonly note: string;
  /** Among others that fit as well, this is what is mostly meant. */
  readonly isCommon?: boolean;
  /** Characters to step back after inserting, into brackets. */
  readonly stepBack?: number;
}

const SHOWN_COUNT = 60;

const ofWord =
  (kind: Suggestion['kind'], call: boolean) =>
  ({ name, usage, meaning }: Word): Suggestion => {
    const isCommon = COMMON.has(name);
    return call
      ? { text: `${name}()`, kind, note: `${usage}: ${meaning}`, isCommon, stepBack: usage.endsWith('()') ? 0 : 1 }
      : { text: name, kind, note: meaning, isCommon };
  };

const WORDS: readonly Suggestion[] = [
  ...FUNCTIONS.map(ofWord('function', true)),
  ...AGGREGATIONS.map(ofWord('aggregation', true)),
  ...KEYWORDS.map(ofWord('keyword', false)),
];
const SPANS: readonly Suggestion[] = DURATIONS.map(ofWord('duration', false));

/** A label value as it may stand between double quotes. */
const escaped = (value: string) => JSON.stringify(value).slice(1, -1);

export interface EditorOptions {
  /** Names of all metrics; asked each time suggestions open. */
  metrics(): readonly string[];
  /** Enter was pressed, or a recent query chosen. */
  run(): void;
}

export class Editor {
  readonly #options: EditorOptions;
  readonly #box = find('expression', HTMLTextAreaElement);
  readonly #paint = find('paint', HTMLPreElement);
  readonly #list = find('suggestions', HTMLDivElement);
  readonly #recentButton = find('recent', HTMLButtonElement);
  #suggestions: readonly Suggestion[] = [];
  /** Index of the suggestion that the arrow keys reached; -1: none, Enter runs the query. */
  #chosen = -1;
  /** Offsets of the text that a suggestion replaces. */
  #from = 0;
  #to = 0;
  /** Counts lookups, so that a late answer of an earlier one is dropped. */
  #lookup = 0;

  constructor(options: EditorOptions) {
    this.#options = options;
    this.#box.addEventListener('input', () => {
      this.#repaint();
      void this.#suggest(false);
    });
    this.#box.addEventListener('keydown', (event) => this.#onKey(event));
    this.#box.addEventListener('scroll', () => this.#paint.scrollTo(this.#box.scrollLeft, this.#box.scrollTop));
    this.#box.addEventListener('blur', () => this.#close());
    // A press on the list must not take the focus from the box.
    this.#list.addEventListener('mousedown', (event) => event.preventDefault());
    this.#list.addEventListener('click', (event) => {
      const item = (event.target as Element).closest<HTMLElement>('[role=option]');
      if (item !== null) this.#accept(Number(item.dataset['index']));
    });
    this.#recentButton.addEventListener('mousedown', (event) => event.preventDefault());
    this.#recentButton.addEventListener('click', () => {
      this.#box.focus();
      if (this.#list.hidden) this.#showRecent();
      else this.#close();
    });
    new ResizeObserver(() => this.#fit()).observe(this.#box.parentElement as HTMLElement);
  }

  get text(): string {
    return this.#box.value.trim();
  }

  set text(query: string) {
    if (this.#box.value.trim() === query) return;
    this.#box.value = query;
    this.#repaint();
  }

  focus(): void {
    this.#box.focus();
    this.#box.setSelectionRange(this.#box.value.length, this.#box.value.length);
  }

  close(): void {
    this.#close();
  }

  #repaint(): void {
    // A last empty line takes up height in a textarea, in a pre only with something on it.
    this.#paint.replaceChildren(...paint(this.#box.value), '\n');
    this.#fit();
  }

  #fit(): void {
    this.#box.style.height = 'auto';
    this.#box.style.height = `${this.#box.scrollHeight}px`;
  }

  #onKey(event: KeyboardEvent): void {
    if (event.isComposing) return;
    const open = !this.#list.hidden;
    const plain = !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey;
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      if (open && this.#chosen >= 0 && plain) this.#accept(this.#chosen);
      else {
        this.#close();
        this.#options.run();
      }
    } else if (event.key === 'Tab' && open && plain) {
      event.preventDefault();
      this.#accept(Math.max(this.#chosen, 0));
    } else if (event.key === 'Escape' && open) {
      event.preventDefault();
      this.#close();
    } else if (event.key === ' ' && event.ctrlKey) {
      event.preventDefault();
      void this.#suggest(true);
    } else if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && plain) {
      if (open) {
        event.preventDefault();
        const count = this.#suggestions.length;
        const step = event.key === 'ArrowDown' ? 1 : -1;
        // One place more than there are items: none chosen, between the last and the first.
        this.#choose(((this.#chosen + 1 + step + count + 1) % (count + 1)) - 1);
      } else if (event.key === 'ArrowDown' && this.#box.value === '') {
        event.preventDefault();
        this.#showRecent();
      }
    } else if ((event.key === 'PageDown' || event.key === 'PageUp') && open && plain) {
      event.preventDefault();
      const step = event.key === 'PageDown' ? 8 : -8;
      this.#choose(Math.min(Math.max(this.#chosen + step, 0), this.#suggestions.length - 1));
    }
  }

  /** Opens what fits at the cursor. Unasked, it waits for a letter: a list that opens on every space is in the way. */
  async #suggest(asked: boolean): Promise<void> {
    const lookup = ++this.#lookup;
    const cursor = this.#box.selectionStart;
    const place = findPlace(this.#box.value, cursor);
    const wanted = asked || place.word !== '' || place.kind === 'value' || this.#afterOpening(place);
    const all = wanted ? await this.#candidates(place).catch(() => []) : [];
    if (lookup !== this.#lookup) return;
    const best = rank(all, place.word, SHOWN_COUNT, ({ text, isCommon = false }) => ({
      name: text.replace(/\(\)$/, ''),
      isCommon,
    }));
    // What is already written in full needs no suggestion.
    const only = best.length === 1 && best[0]?.text === place.word;
    this.#show(only ? [] : best, place.from, cursor);
  }

  #afterOpening({ kind, from }: Place): boolean {
    return (kind === 'label' || kind === 'duration') && /[{([,]$/.test(this.#box.value.slice(0, from).trimEnd());
  }

  async #candidates(place: Place): Promise<readonly Suggestion[]> {
    if (place.kind === 'duration') return SPANS;
    if (place.kind === 'expression') {
      const metrics = this.#options.metrics().map((text): Suggestion => ({ text, kind: 'metric', note: '' }));
      return [...metrics, ...WORDS];
    }
    if (place.kind === 'label') {
      const known = new Set(this.#options.metrics());
      const metric = place.metric ?? metricsOf(this.#box.value).find((name) => known.has(name));
      const names = await labelNames(metric);
      return names.filter((name) => name !== '__name__').map((text) => ({ text, kind: 'label', note: '' }));
    }
    if (place.kind === 'value') {
      const values = await labelValues(place.label, place.metric);
      return values.map((value) => ({ text: escaped(value), kind: 'value', note: '' }));
    }
    return [];
  }

  #showRecent(): void {
    this.#lookup++;
    const recent = readRecent().map((text): Suggestion => ({ text, kind: 'recent', note: '' }));
    const none: Suggestion = { text: '', kind: 'recent', note: 'no queries were run in this browser yet' };
    this.#show(recent.length > 0 ? recent : [none], 0, this.#box.value.length);
  }

  #show(suggestions: readonly Suggestion[], from: number, to: number): void {
    this.#suggestions = suggestions;
    this.#from = from;
    this.#to = to;
    if (suggestions.length === 0) {
      this.#close();
      return;
    }
    this.#list.replaceChildren(
      ...suggestions.map(({ text, kind, note }, index) => {
        const item = element('div', { role: 'option', id: `suggestion-${index}`, 'data-index': String(index) });
        item.append(element('span', { class: 'text' }, text), element('span', { class: 'note' }, note));
        if (kind !== 'recent') item.append(element('span', { class: 'kind' }, kind));
        return item;
      }),
    );
    this.#list.hidden = false;
    this.#list.scrollTop = 0;
    this.#choose(-1);
    this.#placeBelow(from);
  }

  /** Moves the list below the painted character at `offset`. */
  #placeBelow(offset: number): void {
    const walker = document.createTreeWalker(this.#paint, NodeFilter.SHOW_TEXT);
    let rest = offset;
    let node = walker.nextNode() as Text | null;
    while (node !== null && rest > node.length) {
      rest -= node.length;
      node = walker.nextNode() as Text | null;
    }
    if (node === null) return;
    const range = document.createRange();
    range.setStart(node, rest);
    range.setEnd(node, Math.min(rest + 1, node.length));
    const word = range.getBoundingClientRect();
    const around = (this.#box.parentElement as HTMLElement).getBoundingClientRect();
    const room = around.width - this.#list.offsetWidth;
    this.#list.style.left = `${Math.max(0, Math.min(word.left - around.left, room))}px`;
    this.#list.style.top = `${Math.min(word.bottom - around.top, around.height) + 4}px`;
  }

  #choose(index: number): void {
    this.#chosen = index;
    for (const item of this.#list.children) {
      item.setAttribute('aria-selected', String(item.id === `suggestion-${index}`));
    }
    const item = this.#list.children[index];
    if (item === undefined) this.#box.removeAttribute('aria-activedescendant');
    else {
      this.#box.setAttribute('aria-activedescendant', item.id);
      item.scrollIntoView({ block: 'nearest' });
    }
  }

  #accept(index: number): void {
    const suggestion = this.#suggestions[index];
    // Inserting looks for the next suggestions, which moves the fields.
    const [from, to] = [this.#from, this.#to];
    this.#close();
    if (suggestion === undefined || suggestion.text === '') return;
    // A call before brackets that are there already brings none of its own.
    const bracketsThere = suggestion.text.endsWith('()') && this.#box.value[to] === '(';
    const text = bracketsThere ? suggestion.text.slice(0, -2) : suggestion.text;
    this.#box.focus();
    this.#box.setSelectionRange(from, to);
    // The one way to change a textarea that undo knows; browsers without it get a plain replacement.
    if (!document.execCommand('insertText', false, text)) this.#box.setRangeText(text, from, to, 'end');
    const cursor = from + text.length - (bracketsThere ? 0 : (suggestion.stepBack ?? 0));
    this.#box.setSelectionRange(cursor, cursor);
    this.#close();
    this.#repaint();
    if (suggestion.kind === 'recent') this.#options.run();
  }

  #close(): void {
    this.#lookup++;
    this.#list.hidden = true;
    this.#chosen = -1;
    this.#box.removeAttribute('aria-activedescendant');
  }
}
