// Where the gateway answers, and the token it may want.
//
// A token comes with the address of the page (?token=...) or is typed in. It is kept for this tab and taken out of the
// address, so that it is in no history.

const KEPT = "geartrain-token";

const here = new URL(location.href);
if (here.searchParams.has("token")) {
  sessionStorage.setItem(KEPT, here.searchParams.get("token"));
  here.searchParams.delete("token");
  history.replaceState(null, "", here);
}

export const useToken = (token) => sessionStorage.setItem(KEPT, token);

/** The address of `what`, with these parameters; those that are null are left out. */
export function api(what, parameters = {}) {
  const all = { ...parameters, token: sessionStorage.getItem(KEPT) };
  const said = Object.entries(all).filter(([, value]) => value !== null && value !== undefined);
  return `api/v1/${what}?${new URLSearchParams(said)}`;
}
