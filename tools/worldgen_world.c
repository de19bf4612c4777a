/* worldgen_world.c - the land of Orvane: the tables that every fact comes from.
 *
 * Town i has emblem i, landmark i, product i and festival i, so that the questions back ("which town is
 * known for honey?") have one answer.  The words are few and plain: a model of a few million weights
 * has to become fluent in them. */
#include "worldgen.h"

const char *const wg_rivers[8] = { "Salvo",  "Mirren", "Tavel", "Ouro",
                                   "Lindow", "Braska", "Nevis", "Corvo" };

/* name, river, market day, month of the festival, colour of the gate, bridges, leagues to the next */
const wg_town wg_towns[WG_TOWNS] = {
    { "Velmora", 0, 0, 3, 0, 3, 6 },    { "Tarlin", 1, 2, 7, 1, 2, 9 },
    { "Osmere", 0, 4, 0, 2, 5, 4 },     { "Kelvany", 2, 5, 5, 3, 1, 12 },
    { "Durrow", 3, 1, 8, 4, 4, 7 },     { "Belisand", 4, 6, 2, 5, 2, 5 },
    { "Marrowick", 1, 3, 9, 6, 6, 11 }, { "Sundel", 5, 0, 6, 7, 3, 8 },
    { "Ilvara", 6, 2, 4, 1, 1, 3 },     { "Corbeth", 2, 4, 1, 0, 5, 10 },
    { "Fenwyn", 7, 5, 7, 3, 4, 14 },    { "Quillan", 3, 1, 3, 2, 2, 6 },
    { "Ostrel", 4, 6, 8, 5, 3, 13 },    { "Hadril", 5, 3, 5, 4, 6, 9 },
    { "Lumora", 6, 0, 0, 7, 4, 5 },     { "Zefira", 7, 4, 6, 6, 1, 15 },
};

const wg_noun wg_days[WG_DAYS] = {
    { "Monday", "Mondays", "segunda-feira", "segundas-feiras", 'f' },
    { "Tuesday", "Tuesdays", "terça-feira", "terças-feiras", 'f' },
    { "Wednesday", "Wednesdays", "quarta-feira", "quartas-feiras", 'f' },
    { "Thursday", "Thursdays", "quinta-feira", "quintas-feiras", 'f' },
    { "Friday", "Fridays", "sexta-feira", "sextas-feiras", 'f' },
    { "Saturday", "Saturdays", "sábado", "sábados", 'm' },
    { "Sunday", "Sundays", "domingo", "domingos", 'm' },
};

#define MONTH(en, pt)                                                                              \
    { "month of " en, "months of " en, "mês " pt, "meses " pt, 'm' }
const wg_noun wg_months[WG_MONTHS] = {
    MONTH("snow", "da neve"),       MONTH("wind", "do vento"),      MONTH("rain", "da chuva"),
    MONTH("seeds", "das sementes"), MONTH("flowers", "das flores"), MONTH("bees", "das abelhas"),
    MONTH("wheat", "do trigo"),     MONTH("grapes", "das uvas"),    MONTH("leaves", "das folhas"),
    MONTH("fog", "da névoa"),
};

const wg_noun wg_products[WG_TOWNS] = {
    { "honey", "honey", "mel", "mel", 'm' },
    { "wool", "wool", "lã", "lã", 'f' },
    { "cheese", "cheese", "queijo", "queijo", 'm' },
    { "olive oil", "olive oil", "azeite", "azeite", 'm' },
    { "leather", "leather", "couro", "couro", 'm' },
    { "salt", "salt", "sal", "sal", 'm' },
    { "paper", "paper", "papel", "papel", 'm' },
    { "silk", "silk", "seda", "seda", 'f' },
    { "glass", "glass", "vidro", "vidro", 'm' },
    { "tea", "tea", "chá", "chá", 'm' },
    { "dried fish", "dried fish", "peixe seco", "peixe seco", 'm' },
    { "flour", "flour", "farinha", "farinha", 'f' },
    { "soap", "soap", "sabão", "sabão", 'm' },
    { "rope", "rope", "corda", "corda", 'f' },
    { "pottery", "pottery", "cerâmica", "cerâmica", 'f' },
    { "jam", "jam", "geleia", "geleia", 'f' },
};

#define FEST(en, pt)                                                                               \
    { en " Festival", en " Festivals", "Festa " pt, "Festas " pt, 'f' }
const wg_noun wg_festivals[WG_TOWNS] = {
    FEST("Lantern", "das Lanternas"), FEST("Kite", "das Pipas"),    FEST("Candle", "das Velas"),
    FEST("Drum", "dos Tambores"),     FEST("Apple", "das Maçãs"),   FEST("Boat", "dos Barcos"),
    FEST("Book", "dos Livros"),       FEST("Mask", "das Máscaras"), FEST("Rose", "das Rosas"),
    FEST("Bell", "dos Sinos"),        FEST("Star", "das Estrelas"), FEST("Bread", "do Pão"),
    FEST("Fire", "do Fogo"),          FEST("Horse", "dos Cavalos"), FEST("Bridge", "das Pontes"),
    FEST("Song", "das Canções"),
};

const wg_noun wg_emblems[WG_TOWNS] = {
    { "owl", "owls", "coruja", "corujas", 'f' },
    { "fox", "foxes", "raposa", "raposas", 'f' },
    { "heron", "herons", "garça", "garças", 'f' },
    { "otter", "otters", "lontra", "lontras", 'f' },
    { "wolf", "wolves", "lobo", "lobos", 'm' },
    { "turtle", "turtles", "tartaruga", "tartarugas", 'f' },
    { "bear", "bears", "urso", "ursos", 'm' },
    { "swan", "swans", "cisne", "cisnes", 'm' },
    { "stag", "stags", "cervo", "cervos", 'm' },
    { "eagle", "eagles", "águia", "águias", 'f' },
    { "seal", "seals", "foca", "focas", 'f' },
    { "bull", "bulls", "touro", "touros", 'm' },
    { "falcon", "falcons", "falcão", "falcões", 'm' },
    { "ram", "rams", "carneiro", "carneiros", 'm' },
    { "frog", "frogs", "sapo", "sapos", 'm' },
    { "peacock", "peacocks", "pavão", "pavões", 'm' },
};

const wg_noun wg_landmarks[WG_TOWNS] = {
    { "clock tower", "clock towers", "torre do relógio", "torres do relógio", 'f' },
    { "windmill", "windmills", "moinho de vento", "moinhos de vento", 'm' },
    { "old library", "old libraries", "velha biblioteca", "velhas bibliotecas", 'f' },
    { "stone theatre", "stone theatres", "teatro de pedra", "teatros de pedra", 'm' },
    { "iron bridge", "iron bridges", "ponte de ferro", "pontes de ferro", 'f' },
    { "lighthouse", "lighthouses", "farol", "faróis", 'm' },
    { "paper mill", "paper mills", "fábrica de papel", "fábricas de papel", 'f' },
    { "glass garden", "glass gardens", "jardim de vidro", "jardins de vidro", 'm' },
    { "round chapel", "round chapels", "capela redonda", "capelas redondas", 'f' },
    { "bell tower", "bell towers", "torre dos sinos", "torres dos sinos", 'f' },
    { "fish market", "fish markets", "mercado de peixe", "mercados de peixe", 'm' },
    { "great oven", "great ovens", "grande forno", "grandes fornos", 'm' },
    { "white castle", "white castles", "castelo branco", "castelos brancos", 'm' },
    { "horse fountain", "horse fountains", "fonte dos cavalos", "fontes dos cavalos", 'f' },
    { "frog pond", "frog ponds", "lago dos sapos", "lagos dos sapos", 'm' },
    { "music school", "music schools", "escola de música", "escolas de música", 'f' },
};

const wg_noun wg_colours[WG_COLOURS] = {
    { "red", "red", "vermelho", "vermelha", 'm' },
    { "blue", "blue", "azul", "azul", 'm' },
    { "green", "green", "verde", "verde", 'm' },
    { "yellow", "yellow", "amarelo", "amarela", 'm' },
    { "white", "white", "branco", "branca", 'm' },
    { "black", "black", "preto", "preta", 'm' },
    { "brown", "brown", "marrom", "marrom", 'm' },
    { "grey", "grey", "cinza", "cinza", 'm' },
};

const wg_noun wg_crafts[WG_CRAFTS] = {
    { "baker", "bakers", "padeiro", "padeira", 'm' },
    { "smith", "smiths", "ferreiro", "ferreira", 'm' },
    { "teacher", "teachers", "professor", "professora", 'm' },
    { "miller", "millers", "moleiro", "moleira", 'm' },
};

const wg_noun wg_things[] = {
    { "hat", "hats", "chapéu", "chapéus", 'm' },
    { "book", "books", "livro", "livros", 'm' },
    { "lamp", "lamps", "lâmpada", "lâmpadas", 'f' },
    { "chair", "chairs", "cadeira", "cadeiras", 'f' },
    { "table", "tables", "mesa", "mesas", 'f' },
    { "key", "keys", "chave", "chaves", 'f' },
    { "boat", "boats", "barco", "barcos", 'm' },
    { "cup", "cups", "copo", "copos", 'm' },
    { "plate", "plates", "prato", "pratos", 'm' },
    { "knife", "knives", "faca", "facas", 'f' },
    { "shirt", "shirts", "camisa", "camisas", 'f' },
    { "shoe", "shoes", "sapato", "sapatos", 'm' },
    { "candle", "candles", "vela", "velas", 'f' },
    { "basket", "baskets", "cesta", "cestas", 'f' },
    { "box", "boxes", "caixa", "caixas", 'f' },
    { "letter", "letters", "carta", "cartas", 'f' },
    { "bell", "bells", "sino", "sinos", 'm' },
    { "drum", "drums", "tambor", "tambores", 'm' },
    { "kite", "kites", "pipa", "pipas", 'f' },
    { "ring", "rings", "anel", "anéis", 'm' },
    { "coat", "coats", "casaco", "casacos", 'm' },
    { "mirror", "mirrors", "espelho", "espelhos", 'm' },
    { "map", "maps", "mapa", "mapas", 'm' },
    { "bag", "bags", "bolsa", "bolsas", 'f' },
    { "clock", "clocks", "relógio", "relógios", 'm' },
    { "spoon", "spoons", "colher", "colheres", 'f' },
    { "umbrella", "umbrellas", "guarda-chuva", "guarda-chuvas", 'm' },
    { "wheel", "wheels", "roda", "rodas", 'f' },
};
const size_t wg_nthings = FJ_LEN(wg_things);

const wg_noun wg_foods[] = {
    { "apple", "apples", "maçã", "maçãs", 'f' },
    { "pear", "pears", "pera", "peras", 'f' },
    { "egg", "eggs", "ovo", "ovos", 'm' },
    { "cake", "cakes", "bolo", "bolos", 'm' },
    { "fish", "fish", "peixe", "peixes", 'm' },
    { "onion", "onions", "cebola", "cebolas", 'f' },
    { "carrot", "carrots", "cenoura", "cenouras", 'f' },
    { "lemon", "lemons", "limão", "limões", 'm' },
    { "orange", "oranges", "laranja", "laranjas", 'f' },
    { "potato", "potatoes", "batata", "batatas", 'f' },
    { "pumpkin", "pumpkins", "abóbora", "abóboras", 'f' },
    { "fig", "figs", "figo", "figos", 'm' },
    { "nut", "nuts", "noz", "nozes", 'f' },
    { "melon", "melons", "melão", "melões", 'm' },
    { "peach", "peaches", "pêssego", "pêssegos", 'm' },
    { "mushroom", "mushrooms", "cogumelo", "cogumelos", 'm' },
};
const size_t wg_nfoods = FJ_LEN(wg_foods);

const wg_noun wg_animals[] = {
    { "cat", "cats", "gato", "gatos", 'm' },
    { "dog", "dogs", "cachorro", "cachorros", 'm' },
    { "horse", "horses", "cavalo", "cavalos", 'm' },
    { "cow", "cows", "vaca", "vacas", 'f' },
    { "goat", "goats", "cabra", "cabras", 'f' },
    { "duck", "ducks", "pato", "patos", 'm' },
    { "hen", "hens", "galinha", "galinhas", 'f' },
    { "pig", "pigs", "porco", "porcos", 'm' },
    { "sheep", "sheep", "ovelha", "ovelhas", 'f' },
    { "donkey", "donkeys", "burro", "burros", 'm' },
    { "rabbit", "rabbits", "coelho", "coelhos", 'm' },
    { "mouse", "mice", "rato", "ratos", 'm' },
    { "parrot", "parrots", "papagaio", "papagaios", 'm' },
    { "goose", "geese", "ganso", "gansos", 'm' },
};
const size_t wg_nanimals = FJ_LEN(wg_animals);

const wg_noun wg_places[] = {
    { "kitchen", "kitchens", "cozinha", "cozinhas", 'f' },
    { "garden", "gardens", "jardim", "jardins", 'm' },
    { "barn", "barns", "celeiro", "celeiros", 'm' },
    { "school", "schools", "escola", "escolas", 'f' },
    { "market", "markets", "mercado", "mercados", 'm' },
    { "square", "squares", "praça", "praças", 'f' },
    { "forest", "forests", "floresta", "florestas", 'f' },
    { "harbour", "harbours", "porto", "portos", 'm' },
    { "library", "libraries", "biblioteca", "bibliotecas", 'f' },
    { "inn", "inns", "pousada", "pousadas", 'f' },
    { "workshop", "workshops", "oficina", "oficinas", 'f' },
    { "cellar", "cellars", "porão", "porões", 'm' },
    { "tower", "towers", "torre", "torres", 'f' },
    { "bakery", "bakeries", "padaria", "padarias", 'f' },
};
const size_t wg_nplaces = FJ_LEN(wg_places);

/* The first 32 of each live in the world; the rest only visit in texts to be read. */
static const char *const men[] = {
    "Tomas", "Bram",    "Odo",   "Felix", "Hugo",  "Ivo",    "Jorin", "Karel",  "Lino",   "Marek",
    "Nilo",  "Oren",    "Pavel", "Quin",  "Rolf",  "Silas",  "Teo",   "Ugo",    "Viktor", "Wim",
    "Abel",  "Bento",   "Caio",  "Dario", "Emil",  "Fabio",  "Gil",   "Harlan", "Ilan",   "Jonas",
    "Kobi",  "Leandro", "Anton", "Boris", "Carlo", "Denis",  "Edgar", "Frank",  "Georg",  "Henrik",
    "Igor",  "Julian",  "Kurt",  "Lucas", "Mateo", "Nestor", "Omar",  "Paulo",  "Raul",   "Simon"
};
static const char *const women[] = {
    "Rosa",  "Mira",  "Ada",   "Bela",   "Clara",  "Dora",  "Elin",   "Flora", "Greta",  "Hilda",
    "Ines",  "Jana",  "Kira",  "Lena",   "Marta",  "Nora",  "Olga",   "Petra", "Rita",   "Sara",
    "Tilda", "Ursa",  "Vera",  "Wanda",  "Alma",   "Berta", "Celia",  "Dalia", "Edda",   "Freya",
    "Gilda", "Helga", "Agnes", "Bianca", "Camila", "Diana", "Elsa",   "Fiona", "Gloria", "Hannah",
    "Irene", "Julia", "Karin", "Laura",  "Monica", "Nadia", "Olivia", "Paula", "Renata", "Sonia"
};

const char *wg_person(size_t town, size_t craft, char *g) {
    size_t k = (town * WG_CRAFTS + craft) / 2;
    *g = (town + craft) % 2 ? 'f' : 'm';
    return *g == 'f' ? women[k] : men[k];
}

wg_noun wg_craft_of(size_t town, size_t craft) {
    char g;
    wg_person(town, craft, &g);
    wg_noun n = wg_crafts[craft];
    n.pt = g == 'f' ? n.pt_pl : n.pt;
    n.g = g;
    return n;
}

void wg_bind_people(wg *w, size_t town) {
    static const char *const pk[] = { "p0", "p1", "p2", "p3" };
    static const char *const jk[] = { "j0", "j1", "j2", "j3" };
    for (size_t i = 0; i < WG_CRAFTS; i++) {
        char g;
        const char *p = wg_person(town, i, &g);
        wg_noun j = wg_craft_of(town, i);
        wg_bind_str(w, pk[i], p, p, g);
        wg_bind_noun(w, jk[i], &j);
    }
}

const char *wg_any_name(wg *w, char *g) {
    static const char *const a[] = { "Ba", "Be", "Bri", "Ca", "Da", "De", "Do", "Fa", "Fi", "Ga",
                                     "Je", "Ka", "La",  "Li", "Lo", "Ma", "Me", "Mo", "Na", "Ni",
                                     "Pe", "Ra", "Ro",  "Sa", "Se", "Ta", "Te", "Va", "Vi", "Zo" };
    static const char *const b[] = { "ba", "bi", "da", "do", "la", "le", "li", "lo", "ma", "mi",
                                     "na", "ne", "ni", "ra", "re", "ri", "ro", "sa", "ti", "va" };
    *g = wg_chance(w, 50) ? 'f' : 'm';
    if (wg_chance(w, 60)) {
        return *g == 'f' ? women[wg_below(w, FJ_LEN(women))] : men[wg_below(w, FJ_LEN(men))];
    }
    /* One draw per statement: the order of evaluation of arguments is the compiler's. */
    static const char *const ends[] = { "na", "la", "ro", "lin" };
    const char *x = a[wg_below(w, FJ_LEN(a))];
    const char *y = b[wg_below(w, FJ_LEN(b))];
    const char *z = ends[wg_below(w, 2) + (*g == 'f' ? 0 : 2)];
    return fj_arena_printf(&w->a, "%s%s%s", x, y, z);
}

void wg_bind_town(wg *w, size_t i) {
    const wg_town *t = &wg_towns[i], *u = &wg_towns[(i + 1) % WG_TOWNS];
    wg_bind_str(w, "t", t->name, t->name, 'f');
    wg_bind_str(w, "r", wg_rivers[t->river], wg_rivers[t->river], 'm');
    wg_bind_str(w, "c", wg_colours[t->colour].en, wg_colours[t->colour].pt, 'm');
    wg_bind_str(w, "u", u->name, u->name, 'f');
    const char *b = wg_towns[(i + WG_TOWNS - 1) % WG_TOWNS].name;
    wg_bind_str(w, "b", b, b, 'f');
    wg_bind_num(w, "n", t->bridges, 'f');
    wg_bind_str(w, "br", t->bridges == 1 ? "bridge" : "bridges",
                t->bridges == 1 ? "ponte" : "pontes", 'f');
    wg_bind_num(w, "k", t->far, 'f');
    wg_bind_noun(w, "x", &wg_products[i]);
    wg_bind_noun(w, "f", &wg_festivals[i]);
    wg_bind_noun(w, "a", &wg_emblems[i]);
    wg_bind_noun(w, "l", &wg_landmarks[i]);
    wg_bind_noun(w, "d", &wg_days[t->day]);
    wg_bind_noun(w, "m", &wg_months[t->month]);
}
