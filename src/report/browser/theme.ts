/** Light and dark: as the system says, until the reader chooses. Print is always light. */

const KEY = 'pinstorm-theme';

export function setUpTheme(redraw: () => void): void {
  const root = document.documentElement;
  const button = document.querySelector<HTMLButtonElement>('#theme');
  const system = matchMedia('(prefers-color-scheme: dark)');
  const apply = (theme: string): void => {
    root.dataset['theme'] = theme;
    if (button !== null) button.textContent = theme === 'dark' ? 'Light' : 'Dark';
    redraw();
  };
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // A file may not be allowed to keep anything.
  }
  const wanted = (): string => chosen ?? (system.matches ? 'dark' : 'light');
  button?.addEventListener('click', () => {
    chosen = root.dataset['theme'] === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // See above.
    }
    apply(chosen);
  });
  system.addEventListener('change', () => apply(wanted()));
  window.addEventListener('beforeprint', () => apply('light'));
  window.addEventListener('afterprint', () => apply(wanted()));
  apply(wanted());
}
